"""One asset a module, and what a run of `embedding_shards` is made of."""
