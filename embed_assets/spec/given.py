"""A pipeline as a user of the package names it: itself, or its file."""

from pathlib import Path

from embed_assets.spec.load import load_pipeline
from embed_assets.spec.pipeline import EmbeddingPipeline

Given = EmbeddingPipeline | str | Path


def as_pipeline(given: Given) -> EmbeddingPipeline:
    """The pipeline, or the one in a file. Raises SpecError."""
    return given if isinstance(given, EmbeddingPipeline) else load_pipeline(Path(given))
