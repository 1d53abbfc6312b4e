"""Backends and what they reach: jobs in this process, stand-ins for the worker's Python, a fake SkyPilot server."""
