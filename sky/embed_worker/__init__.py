"""Embeds stride partitions with vLLM and commits them to the lake exactly once.

Runs in its own environment, on this machine or on a cloud node: it imports neither Dagster nor SkyPilot.
"""
