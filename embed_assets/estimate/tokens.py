"""Tokens, windows and duplicates of a sample, counted by the worker's own tokenizer code."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embed_assets.estimate.figures import Figure, How
from embed_assets.estimate.sample import Sample
from embed_assets.spec import EmbeddingPipeline
from embed_worker.engine.hash import MODEL as HASH_MODEL
from embed_worker.engine.hash import byte_tokenizer
from embed_worker.extras import MissingExtra, need
from embed_worker.lake.spec import EmbeddingSpec

if TYPE_CHECKING:
    from embed_worker.engine.tokens import TextTokenizer

CONFIDENCE = 1.96
"""Standard errors of a 95 % interval."""
CHARACTERS_PER_TOKEN = (2.5, 4.0, 5.5)
"""Where there is no tokenizer: of texts in most languages with a space between words."""
HEAD_SPREAD = 0.25
"""What the head of a source may be off by beyond its sampling error: it is no random sample."""
BATCH = 512


@dataclass(frozen=True)
class Counts:
    """What a row of the dataset takes, as its sample tells."""

    tokens_per_row: Figure
    windows_per_row: Figure
    duplicates: float | None
    """Share of the windows that a checkpoint need not compute again; None where it was not counted."""
    percentiles: dict[str, float]
    """Tokens of a row in the sample: p5, p50, p95, p99, max, sd. Empty where nothing was tokenised."""
    sample: int
    how: str


def find_tokenizer(pipeline: EmbeddingPipeline) -> "tuple[TextTokenizer | None, str]":
    """The model's tokenizer as far as it is on this machine, and where it is or why there is none."""
    try:
        need("plan")
    except MissingExtra as error:
        if pipeline.plan.tokenizer is not None:
            raise
        return None, str(error)
    from tokenizers import Tokenizer

    from embed_worker.engine.tokens import TextTokenizer

    spec = pipeline.embedding
    if spec.model == HASH_MODEL:
        return TextTokenizer(byte_tokenizer(), spec), "the hash engine's bytes"
    if pipeline.plan.tokenizer is not None:
        path = Path(pipeline.plan.tokenizer).expanduser()
        if not path.is_file():
            raise ValueError(f"plan.tokenizer: there is no file {path}")
    elif (folder := model_folder(spec)) is None or not (path := folder / "tokenizer.json").is_file():
        return None, f"the tokenizer of {spec.model} is not on this machine (set plan.tokenizer or plan.tokens_per_row)"
    return TextTokenizer(Tokenizer.from_file(str(path)), spec), str(path)


def model_folder(spec: EmbeddingSpec) -> Path | None:
    """Where the model lies on this machine, if it does: its location, or the hub's cache. The hub is not asked.

    Raises MissingExtra.
    """
    if spec.location is not None:
        return Path(spec.location).expanduser() if "://" not in spec.location else None
    need("plan")
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(spec.model, "config.json", revision=spec.revision)
    return Path(found).parent if isinstance(found, str) else None


def stated(tokens_per_row: float, spec: EmbeddingSpec) -> Counts:
    """Counts where the pipeline states tokens per row. Rows longer than a window cannot be told from that."""
    windows = max(1.0, tokens_per_row / spec.max_tokens) if spec.long_texts == "window" else 1.0
    return Counts(
        Figure.exact(tokens_per_row, How.STATED), Figure(windows, windows, 1.5 * windows, How.ASSUMED),
        None, {}, 0, "plan.tokens_per_row",
    )  # fmt: skip


def count(sample: Sample, tokenizer: "TextTokenizer", spec: EmbeddingSpec, checkpoint_rows: int) -> Counts:
    """Tokenises the sample as the worker does. Raises ValueError where it is empty."""
    if not sample.texts:
        raise ValueError("the sample has no text")
    tokens, windows, repeated = [], [], 0
    for start in range(0, len(sample.texts), checkpoint_rows):
        seen: set[tuple[int, ...]] = set()
        part = sample.texts[start : start + checkpoint_rows]
        for at in range(0, len(part), BATCH):
            for found in tokenizer.windows(part[at : at + BATCH], spec.prompts.document):
                tokens.append(sum(len(window.ids) for window in found))
                windows.append(len(found))
                for window in found:
                    repeated += window.ids in seen
                    seen.add(window.ids)
    values = np.asarray(tokens, dtype=float)
    return Counts(
        tokens_per_row=_mean(values, sample),
        windows_per_row=_mean(np.asarray(windows, dtype=float), sample),
        duplicates=repeated / max(sum(windows), 1),
        percentiles=_percentiles(values),
        sample=len(values),
        how=sample.origin,
    )


def guess(sample: Sample, spec: EmbeddingSpec) -> Counts:
    """Counts from the texts' lengths alone, where there is no tokenizer."""
    if not sample.texts:
        raise ValueError("the sample has no text")
    lengths = np.asarray([len(text) for text in sample.texts], dtype=float)
    few, some, many = (_guessed(lengths, per, spec) for per in reversed(CHARACTERS_PER_TOKEN))
    windows = [max(1.0, float(np.mean(np.ceil(lengths / per / spec.max_tokens)))) for per in CHARACTERS_PER_TOKEN]
    windows = sorted(windows if spec.long_texts == "window" else [1.0, 1.0, 1.0])
    return Counts(
        Figure(few, some, many, How.ASSUMED), Figure(windows[0], windows[1], windows[2], How.ASSUMED),
        None, {}, len(lengths), f"{sample.origin}; {CHARACTERS_PER_TOKEN[1]:g} characters a token are assumed",
    )  # fmt: skip


def _guessed(lengths: np.ndarray, per_token: float, spec: EmbeddingSpec) -> float:
    tokens = lengths / per_token + 2
    if spec.long_texts == "truncate":
        return float(np.mean(np.minimum(tokens, spec.max_tokens)))
    return float(np.mean(tokens * (1 + spec.overlap / spec.max_tokens * (tokens > spec.max_tokens))))


def _mean(values: np.ndarray, sample: Sample) -> Figure:
    """Mean with its 95 % interval; by clusters, which rows of one part of the source may share a character."""
    mean = float(values.mean())
    if sample.whole:
        return Figure.exact(mean, How.MEASURED)
    clusters = np.asarray(sample.clusters)
    names, counts = np.unique(clusters, return_counts=True)
    if len(names) < 2:
        error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else mean
        return _around(mean, CONFIDENCE * error + HEAD_SPREAD * mean, How.SAMPLED)
    sums = np.asarray([values[clusters == name].sum() for name in names]) if len(names) < len(values) else values
    deviations = sums - mean * (counts if len(names) < len(values) else 1)
    error = math.sqrt(float(np.sum(deviations**2)) * len(names) / (len(names) - 1)) / len(values)
    return _around(mean, CONFIDENCE * error + (0.0 if sample.random else HEAD_SPREAD * mean), How.SAMPLED)


def _around(value: float, half: float, how: How) -> Figure:
    return Figure(max(0.0, value - half), value, value + half, how)


def _percentiles(values: np.ndarray) -> dict[str, float]:
    names = {"p5": 5, "p50": 50, "p95": 95, "p99": 99, "max": 100}
    found = {name: round(float(np.percentile(values, at)), 1) for name, at in names.items()}
    return {**found, "sd": round(float(values.std()), 1)}


def parameters_in_name(model: str) -> float | None:
    """`gte-Qwen2-7B-instruct` → 7e9."""
    found = re.findall(r"(?<![0-9A-Za-z.])(\d+(?:\.\d+)?)([BbMm])(?![A-Za-z0-9])", model.rsplit("/", 1)[-1])
    return float(found[-1][0]) * (1e9 if found[-1][1] in "Bb" else 1e6) if found else None
