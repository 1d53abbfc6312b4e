"""The Dagster assets, and what builds them."""
