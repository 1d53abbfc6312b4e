"""Blocks read fast, against the careful readers."""
