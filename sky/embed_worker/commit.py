"""The end of a partition: checkpoints become a few big files, then the manifest commits them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from embed_worker import failpoints, files, layout
from embed_worker.checkpoints import CheckpointRecord, Checkpoints
from embed_worker.errors import BadJob
from embed_worker.files import FileRef
from embed_worker.job import EmbedJob
from embed_worker.manifests import Canaries, ShardManifest
from embed_worker.store import Store
from embed_worker.table import REJECTS_SCHEMA, parquet_writer, shard_schema

PART_BYTES = 512 << 20
ROW_GROUP_BYTES = 64 << 20


def commit_shard(
    store: Store,
    job: EmbedJob,
    checkpoints: Checkpoints,
    scratch: Path,
    *,
    canaries: Canaries | None,
    engine: dict[str, str],
    hardware: dict[str, Any],
    seconds: dict[str, float],
) -> bool:
    """Writes the parts and creates the manifest. False: another attempt committed first."""
    records = [checkpoints.record(index) for index in range(checkpoints.count)]
    if (rows := sum(record.rows for record in records)) != job.input.rows:
        raise BadJob(f"the checkpoints of {job.partition} hold {rows} rows, the job says {job.input.rows}")
    dimension = next((r.dimension for r in records if r.dimension is not None), None)
    parts = _write_parts(store, job, checkpoints, records, dimension, scratch) if dimension else []
    rejected = [reject for record in records for reject in record.rejects]
    rejects_file = None
    if rejected:
        table = pa.Table.from_pylist([r.model_dump() for r in rejected], schema=REJECTS_SCHEMA)
        local = scratch / layout.REJECTS
        pq.write_table(table, local)
        rejects_file = files.publish(store, job.output, local, layout.REJECTS, len(rejected))
        failpoints.reach("rejects.published")
    by_reason: dict[str, int] = {}
    for reject in rejected:
        by_reason[reject.reason] = by_reason.get(reject.reason, 0) + 1
    manifest = ShardManifest(
        pipeline=job.pipeline,
        partition=job.partition,
        dataset=job.dataset,
        stride=job.stride,
        spec_id=job.spec.spec_id,
        spec=job.spec,
        input=job.input,
        files=parts,
        rejects=rejects_file,
        rows_in=job.input.rows,
        rows_embedded=job.input.rows - len(rejected),
        rows_rejected=len(rejected),
        rejects_by_reason=by_reason,
        chunks=sum(r.chunks for r in records),
        tokens=sum(r.tokens for r in records),
        duplicate_chunks=sum(r.duplicate_chunks for r in records),
        dimension=dimension,
        dtype=job.spec.output_dtype,
        canaries=canaries,
        checkpoint_rows=job.checkpoint_rows,
        checkpoints=checkpoints.count,
        engine=engine,
        hardware=hardware,
        attempts=checkpoints.attempts(),
        seconds={**seconds, "engine": round(sum(r.engine_seconds for r in records), 3)},
    )
    failpoints.reach("manifest.ready")
    first = store.create_json(job.manifest_path, manifest.model_dump(mode="json"))
    failpoints.reach("manifest.created")
    return first


def _write_parts(
    store: Store,
    job: EmbedJob,
    checkpoints: Checkpoints,
    records: list[CheckpointRecord],
    dimension: int,
    scratch: Path,
) -> list[FileRef]:
    """Parts are cut by the records alone, so every attempt cuts alike."""
    schema = shard_schema(job, dimension)
    parts = []
    for index, group in enumerate(_groups(records)):
        local = scratch / layout.part_name(index)
        with parquet_writer(local, schema) as writer:
            pending: list[pa.Table] = []
            for record in group:
                source = checkpoints.data(record, scratch)
                if source is None:
                    continue
                pending.append(pq.read_table(source).replace_schema_metadata(schema.metadata).cast(schema))
                if not store.is_local:
                    source.unlink()
                if sum(table.nbytes for table in pending) >= ROW_GROUP_BYTES:
                    writer.write_table(pa.concat_tables(pending))
                    pending = []
            if pending:
                writer.write_table(pa.concat_tables(pending))
        rows = sum(record.chunks for record in group)
        failpoints.reach("part.written")
        parts.append(files.publish(store, job.output, local, layout.part_name(index), rows))
        local.unlink(missing_ok=True)
        failpoints.reach("part.published")
    return parts


def _groups(records: list[CheckpointRecord]) -> Iterator[list[CheckpointRecord]]:
    group: list[CheckpointRecord] = []
    size = 0
    for record in records:
        added = record.data.bytes if record.data else 0
        if size and size + added > PART_BYTES:
            yield group
            group, size = [], 0
        group.append(record)
        size += added
    if any(record.data for record in group):
        yield group
