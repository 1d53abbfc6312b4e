"""A Dagster data platform that turns millions of texts into embeddings. No torch, no vLLM in here."""

__version__ = "0.1.0"
