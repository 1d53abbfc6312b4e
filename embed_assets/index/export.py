"""A dataset's vectors as plain Parquet with a dataset card: for the Hub, notebooks, other databases."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from embed_assets.index.rows import SetRows
from embed_assets.spec import EmbeddingPipeline
from embed_worker.lake.errors import NotReady
from embed_worker.lake.sets import SetManifest, current_set
from resources.lake import Lake

OWN = ("stride", "digest", "text_key")
"""Columns of the table that mean nothing outside of the lake."""
FILE_ROWS = 1_000_000
GROUP_ROWS = 16_384
CARD = "README.md"

Dtype = Literal["float32", "float16"]


@dataclass(frozen=True)
class Exported:
    """What was written."""

    folder: Path
    files: list[Path]
    rows: int


def export_dataset(
    lake: Lake, pipeline: EmbeddingPipeline, dataset: str, folder: Path, *,
    dtype: Dtype | None = None, passages: bool = True, columns: Mapping[str, str] | None = None,
) -> Exported:  # fmt: skip
    """Into a folder that is empty or not there. Raises NotReady before there is a set, FileExistsError."""
    described = pipeline.dataset(dataset)
    found = current_set(lake.store, dataset, pipeline.embedding.spec_id, described.ingest_id)
    if found is None:
        raise NotReady(f"embedding_set of {dataset} is not in {lake.root}; materialize it first")
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; export into a new folder")
    with lake.store.scratch() as scratch:
        rows = SetRows(lake, found, pipeline.index.columns if columns is None else columns, scratch)
        (folder / "data").mkdir(parents=True, exist_ok=True)
        kind = pa.float16() if (dtype or found.dtype) == "float16" else pa.float32()
        left_out = {*OWN, *(() if passages else ("passage",))}
        schema = pa.schema([field for field in rows.schema if field.name not in left_out])
        place = schema.get_field_index("vector")
        schema = schema.set(place, pa.field("vector", pa.list_(kind, found.dimension or 1)))
        files, written = _write(rows.all(), schema, folder / "data")
    (folder / CARD).write_text(card(pipeline, found, schema), encoding="utf-8")
    return Exported(folder, files, written)


def _write(batches: Iterator[pa.RecordBatch], schema: pa.Schema, folder: Path) -> tuple[list[Path], int]:
    files: list[Path] = []
    writer, written, held = None, 0, 0
    try:
        for batch in batches:
            if writer is None or held >= FILE_ROWS:
                if writer is not None:
                    writer.close()
                files.append(folder / f"train-{len(files):05d}.parquet")
                writer, held = pq.ParquetWriter(files[-1], schema, use_dictionary=False, compression="zstd"), 0
            columns = [batch.column(name).cast(schema.field(name).type) for name in schema.names]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema), row_group_size=GROUP_ROWS)
            written, held = written + len(batch), held + len(batch)
        if writer is None:
            files.append(folder / "train-00000.parquet")
            writer = pq.ParquetWriter(files[0], schema)
    finally:
        if writer is not None:
            writer.close()
    return files, written


def card(pipeline: EmbeddingPipeline, found: SetManifest, schema: pa.Schema) -> str:
    """A dataset card as the Hub reads it: YAML, then Markdown."""
    spec = pipeline.embedding
    query = f"`{spec.prompts.query}` before each query" if spec.prompts.query else "no prompt"
    columns = "\n".join(f"| `{field.name}` | {field.type} |" for field in schema)
    return f"""---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
tags:
- embeddings
---

# {found.dataset}

{found.windows:,} vectors of {found.rows:,} rows: a long text has several, one a window. `id` is the row, `chunk` the
window, `passage` its piece of the text, from character `char_start` to before `char_end`.

| column | type |
|---|---|
{columns}

| | |
|---|---|
| model | `{spec.model}`{f" at `{spec.revision}`" if spec.revision else ""} |
| pooling, attention | {spec.pooling}, {spec.attention} |
| vectors | {found.dimension} components, {"of length 1" if spec.normalize else "not normalised"}; compare by cosine |
| longest window | {spec.max_tokens} tokens |
| query prompt | {query} |
| spec, snapshot, set | `{found.spec_id}`, `{found.snapshot}`, `{found.digest}` |
"""
