"""Storms: processes that are forked, killed, frozen and starved, and the proof of what they leave."""
