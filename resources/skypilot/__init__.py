"""Jobs as SkyPilot managed jobs."""
