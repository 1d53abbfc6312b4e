"""Faults of a source that stop the ingest; faults of single rows go to rejects instead."""


class SourceError(ValueError):
    """A source cannot be read as the spec says. Names the file and the cure; nothing was committed."""
