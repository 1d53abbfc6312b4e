"""Damage, hostile input, secrets: what must never get through."""
