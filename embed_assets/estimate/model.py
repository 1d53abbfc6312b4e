"""What the plan needs to know of the model: parameters, dimension, bytes of its weights. Reads headers, no weights."""

import json
from dataclasses import dataclass
from pathlib import Path

from embed_assets.estimate.figures import Figure, How
from embed_assets.estimate.tokens import model_folder, parameters_in_name
from embed_assets.spec import EmbeddingPipeline
from embed_worker.engine.hash import DIMENSION
from embed_worker.engine.hash import MODEL as HASH_MODEL
from embed_worker.extras import MissingExtra, need

LOOKED_UP = ("embeddings", "embed_tokens", "lm_head", "wte.")
"""Tensors that a token is looked up in, or that an embedding model does not use: no FLOPs."""
SLACK = 0.1
"""Of a parameter count that was read off a model's name."""


@dataclass(frozen=True)
class Model:
    """None where it is not known here."""

    parameters: Figure | None
    """That a token passes through."""
    dimension: int | None
    weight_bytes: float | None
    how: str


def describe(pipeline: EmbeddingPipeline) -> Model:
    spec, assumed = pipeline.embedding, pipeline.plan
    dimension = spec.dimensions or assumed.dimension
    if spec.model == HASH_MODEL:
        return Model(None, dimension or DIMENSION, 0.0, "the hash engine has no parameters")
    parameters: Figure | None = None
    weights: float | None = None
    how = f"no folder of {spec.model} is on this machine"
    try:
        if (folder := model_folder(spec)) is not None:
            if (folder / "config.json").is_file():
                config = json.loads((folder / "config.json").read_bytes())
                dimension = dimension or config.get("hidden_size") or config.get("d_model")
            if files := sorted(folder.glob("*.safetensors")):
                count = float(sum(parameters_of(file) for file in files))
                parameters, weights = Figure.exact(count, How.MEASURED), float(sum(f.stat().st_size for f in files))
                how = f"the safetensors headers in {folder}"
    except MissingExtra as error:
        how = str(error)
    if parameters is None and (named := parameters_in_name(spec.model)) is not None:
        parameters = Figure((1 - SLACK) * named, named, (1 + SLACK) * named, How.ASSUMED)
        weights, how = 2.0 * named, f"the name of {spec.model}"
    if assumed.parameters is not None:
        parameters, how = Figure.exact(assumed.parameters, How.STATED), "plan.parameters"
        weights = weights or 2.0 * assumed.parameters
    return Model(parameters, dimension, weights, how)


def parameters_of(file: Path) -> int:
    """Elements of a safetensors file's tensors, without those that are only looked up."""
    need("plan")
    from huggingface_hub import parse_local_safetensors_file_metadata
    from huggingface_hub.errors import SafetensorsParsingError

    try:
        tensors = parse_local_safetensors_file_metadata(file).tensors
    except SafetensorsParsingError as error:
        raise ValueError(f"{file} is not a safetensors file: {error}") from error
    return sum(one.parameter_count for name, one in tensors.items() if not any(word in name for word in LOOKED_UP))
