"""Blocks of a source read by whole columns: what the careful readers give, at the machine's speed."""
