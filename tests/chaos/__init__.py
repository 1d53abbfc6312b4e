"""Storms that kill, freeze and starve real workers, drivers and Dagster runs."""
