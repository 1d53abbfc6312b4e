"""Models: texts to token ids to vectors."""
