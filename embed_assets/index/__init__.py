"""The vector table of a dataset, and search in it."""
