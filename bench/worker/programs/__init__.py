"""What the bench starts in other environments, by file. None imports anything of this repository but embed_worker."""
