"""Proof, cleaning and state of a lake."""
