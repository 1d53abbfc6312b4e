"""What a pipeline is: the models behind its YAML file, and the reader of that file."""

from embed_assets.spec.load import SpecError, load_pipeline, load_pipelines
from embed_assets.spec.pipeline import DatasetSpec, EmbeddingPipeline
from embed_worker.steps.spec import RowRange

__all__ = ["DatasetSpec", "EmbeddingPipeline", "RowRange", "SpecError", "load_pipeline", "load_pipelines"]
