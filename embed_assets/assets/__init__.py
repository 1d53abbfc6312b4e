"""The four assets of a pipeline, one a module."""
