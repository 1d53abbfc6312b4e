"""The columns of a shard, and how they are written to Parquet."""

from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from embed_worker.lake.identity import KEY_TYPE
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.layout import FORMAT

METADATA_KEY = b"embed_assets"
DTYPES = {"float32": pa.float32(), "float16": pa.float16()}
REJECTS_SCHEMA = pa.schema([("id", pa.string()), ("text_key", KEY_TYPE), ("reason", pa.string())])


def shard_schema(job: EmbedJob, dimension: int) -> pa.Schema:
    """Schema of checkpoints and parts; its metadata lets a file that is found alone explain itself."""
    about = {
        "format": FORMAT,
        "pipeline": job.pipeline,
        "partition": job.shard.key,
        "partitioning": job.shard.partitioning.name,
        "input_digest": job.input.digest,
        "spec_id": job.shard.spec_id,
        "spec": job.spec.identity(),
    }
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("text_key", KEY_TYPE, nullable=False),
            pa.field("chunk", pa.int32(), nullable=False),
            pa.field("n_tokens", pa.int32(), nullable=False),
            pa.field("char_start", pa.int32(), nullable=False),
            pa.field("char_end", pa.int32(), nullable=False),
            pa.field(
                "embedding",
                pa.list_(pa.field("element", DTYPES[job.spec.output_dtype], nullable=False), dimension),
                nullable=False,
            ),
        ],
        metadata={METADATA_KEY: orjson.dumps(about, option=orjson.OPT_SORT_KEYS)},
    )


def embedding_column(vectors: np.ndarray, field: pa.Field) -> pa.FixedSizeListArray:
    """Vectors of shape [n, dimension] as a fixed-size list column."""
    kind = field.type
    flat = np.ascontiguousarray(vectors, dtype=kind.value_type.to_pandas_dtype()).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat, type=kind.value_type), type=kind)


def parquet_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Plain columns: dictionaries and compression only slow random floats down. Each page has a checksum: who reads
    some row groups of a file cannot hold it against the digest of the whole."""
    compression = {field.name: "zstd" for field in schema if field.name != "embedding"}
    compression["embedding.list.element"] = "none"
    return pq.ParquetWriter(
        path, schema, use_dictionary=False, compression=compression, write_statistics=["text_key"],
        write_page_checksum=True,
    )  # fmt: skip


def write_table(path: Path, table: pa.Table) -> None:
    with parquet_writer(path, table.schema) as writer:
        writer.write_table(table)
