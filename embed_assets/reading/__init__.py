"""Committed vectors, for who comes after: as Polars frames, from files where they lie."""
