"""LanceDB: one database a spec, one table a dataset, replaced as a whole. Raises MissingExtra where it is not there."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embed_worker.extras import need
from embed_worker.lake import failpoints, files
from embed_worker.lake.identity import KEY_TYPE
from embed_worker.lake.manifests import ShardManifest
from embed_worker.lake.sets import SetManifest
from embed_worker.lake.strides import Span, bring
from resources.lake import Lake

DIGEST_KEY = b"embed_assets.shards"
ANN_ROWS = 100_000
"""From here on an approximate index pays; below it a full scan is exact and quick."""
BATCH = 8_192


@dataclass(frozen=True)
class ShardInput:
    """A committed shard and where its rows lie."""

    manifest: ShardManifest
    spans: Sequence[Span]
    windows: int
    """That are left, without those of removed rows."""
    removed: pa.ChunkedArray | None = None
    """Ids of rows that are left out."""


@dataclass(frozen=True)
class BuiltTable:
    """The table, and whether this call made it."""

    uri: str
    digest: str
    created: bool
    ann_index: str
    seconds: float


def database_uri(lake: Lake, spec_id: str) -> str:
    return lake.url(f"vector_index/{spec_id}")


def open_table(lake: Lake, spec_id: str, dataset: str) -> Any:
    """The dataset's table, or None where there is none."""
    lancedb = _lancedb()
    if not lake.store.list(f"vector_index/{spec_id}"):
        return None  # connecting would make a folder
    database = lancedb.connect(database_uri(lake, spec_id))
    try:
        return database.open_table(dataset)
    except (ValueError, FileNotFoundError):
        return None


def table_rows(lake: Lake, spec_id: str, dataset: str) -> int:
    table = open_table(lake, spec_id, dataset)
    return int(table.count_rows()) if table is not None else 0


def build_table(lake: Lake, found: SetManifest, shards: list[ShardInput]) -> BuiltTable:
    """Streams the shards into a new version of the table; readers see it when it is whole."""
    lancedb = _lancedb()
    begun = time.monotonic()
    spec_id, dataset, digest = found.spec_id, found.dataset, found.digest
    uri = database_uri(lake, spec_id)
    table = open_table(lake, spec_id, dataset)
    if table is not None and _holds(table, digest, sum(shard.windows for shard in shards)):
        if not table.list_indices():  # the process that made the table may have been killed before it got to this
            _index(table)
        return BuiltTable(uri, digest, False, _ann(table), round(time.monotonic() - begun, 3))
    schema = _schema(shards, digest)
    batches = _Batches(lake, shards, schema)
    try:
        table = lancedb.connect(uri).create_table(dataset, data=iter(batches), schema=schema, mode="overwrite")
    except Exception as error:
        raise batches.failure or error from error  # LanceDB wraps what went wrong while it was reading
    failpoints.reach("index.created")
    _index(table)
    table.optimize(cleanup_older_than=timedelta(days=1))
    return BuiltTable(uri, digest, True, _ann(table), round(time.monotonic() - begun, 3))


def _lancedb() -> Any:
    need("index")
    import lancedb

    return lancedb


def _index(table: Any) -> None:
    if table.count_rows() >= ANN_ROWS:
        table.create_index(metric="cosine", vector_column_name="vector", index_type="IVF_HNSW_SQ")


def _holds(table: Any, digest: str, rows: int) -> bool:
    """Whether a table was made from these very shards, and is whole."""
    made_from: bytes | None = (table.schema.metadata or {}).get(DIGEST_KEY)
    return made_from == digest.encode() and table.count_rows() == rows


def _ann(table: Any) -> str:
    indices = table.list_indices()
    return ", ".join(str(index.index_type) for index in indices) or "none: full scan"


def _schema(shards: list[ShardInput], digest: str) -> pa.Schema:
    first = next((shard.manifest for shard in shards if shard.manifest.dimension), shards[0].manifest)
    kind = pa.float16() if first.dtype == "float16" else pa.float32()
    return pa.schema(
        [
            pa.field("id", pa.string()),
            pa.field("text_key", KEY_TYPE),
            pa.field("chunk", pa.int32()),
            pa.field("char_start", pa.int32()),
            pa.field("char_end", pa.int32()),
            pa.field("text", pa.string()),
            pa.field("vector", pa.list_(kind, first.dimension or 1)),
        ],
        metadata={DIGEST_KEY: digest.encode()},
    )


class _Batches:
    """The shards as record batches of the table; keeps the fault that ended it."""

    def __init__(self, lake: Lake, shards: list[ShardInput], schema: pa.Schema) -> None:
        self._lake, self._shards, self._schema = lake, shards, schema
        self.failure: Exception | None = None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        try:
            for shard in self._shards:
                with self._lake.store.scratch() as scratch:  # its own: a dataset's texts and vectors fill many a disk
                    yield from self._of(shard, scratch)
        except Exception as error:
            self.failure = error
            raise

    def _of(self, shard: ShardInput, scratch: Path) -> Iterator[pa.RecordBatch]:
        store, schema = self._lake.store, self._schema
        texts: dict[bytes, str] = {}
        for table in bring(store, shard.spans, scratch).batches():
            texts.update(zip(table.column("text_key").to_pylist(), table.column("text").to_pylist(), strict=True))
        for file in shard.manifest.files:
            local = files.fetch(store, shard.manifest.shard.folder, file, scratch)
            for batch in pq.ParquetFile(local).iter_batches(batch_size=BATCH):
                if shard.removed is not None:
                    gone = pc.is_in(batch.column("id"), value_set=shard.removed.combine_chunks())
                    batch = batch.filter(pc.invert(gone))
                passages = pa.array([texts[key] for key in batch.column("text_key").to_pylist()], pa.string())
                columns = [batch.column(name) for name in schema.names[:5]]
                vectors = batch.column("embedding").cast(schema.field("vector").type)
                failpoints.reach("index.batch")
                yield pa.RecordBatch.from_arrays([*columns, passages, vectors], schema=schema)
