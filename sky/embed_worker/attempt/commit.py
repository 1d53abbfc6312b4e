"""The end of a partition: the last part file, the rejects, then the manifest commits them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from embed_worker.attempt.checkpoints import Checkpoints
from embed_worker.attempt.parts import Parts
from embed_worker.errors import BadJob, NeedsEngine
from embed_worker.lake import failpoints, files, layout
from embed_worker.lake.attempts import Hardware
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.manifests import Canaries, Reused, ShardManifest, ensure_space, write_manifest
from embed_worker.lake.store import Store
from embed_worker.lake.table import REJECTS_SCHEMA


@dataclass(frozen=True)
class Made:
    """What the vectors were made by."""

    canaries: Canaries | None
    engine: dict[str, str]
    engine_of: str | None = None
    """Folder of the earlier shard whose engine it was, where none ran."""


def commit_shard(
    store: Store,
    job: EmbedJob,
    checkpoints: Checkpoints,
    parts: Parts,
    scratch: Path,
    made: Made,
    hardware: Hardware,
    seconds: dict[str, float],
    unusable: dict[str, str],
) -> bool:
    """Writes what is left and creates the manifest. False: another attempt committed first.

    `unusable`: why earlier shards were not used.
    """
    written = parts.finish()
    records = parts.records
    if (rows := sum(record.rows for record in records)) != job.input.rows:
        raise BadJob(f"the checkpoints of {job.shard.key} hold {rows} rows, the job says {job.input.rows}")
    embedded = sum(record.rows_embedded for record in records)
    if made.engine_of is not None and embedded:  # by another attempt, whose engine's canaries are not known here
        raise NeedsEngine(f"{embedded} rows of {job.shard.key} were embedded by another attempt's engine meanwhile")
    rejected = [reject for record in records for reject in record.rejects]
    rejects_file = None
    if rejected:
        listed = [{**reject.model_dump(), "text_key": bytes.fromhex(reject.text_key)} for reject in rejected]
        table = pa.Table.from_pylist(listed, schema=REJECTS_SCHEMA)
        local = scratch / layout.REJECTS
        pq.write_table(table, local)
        rejects_file = files.publish(store, job.shard.folder, local, layout.REJECTS, len(rejected))
        failpoints.reach("rejects.published")
    reused = _together(one for record in records for one in record.reused)
    by_reason: dict[str, int] = {}
    for reject in rejected:
        by_reason[reject.reason] = by_reason.get(reject.reason, 0) + 1
    manifest = ShardManifest(
        pipeline=job.pipeline,
        shard=job.shard,
        spec=job.spec,
        input=job.input,
        files=written,
        rejects=rejects_file,
        rows_in=job.input.rows,
        rows_embedded=embedded,
        rows_reused=sum(one.rows for one in reused),
        reused=reused,
        unusable=unusable,
        rows_rejected=len(rejected),
        rejects_by_reason=by_reason,
        windows=sum(r.windows for r in records),
        tokens=sum(r.tokens for r in records),
        duplicate_windows=sum(r.duplicate_windows for r in records),
        dimension=parts.dimension,
        dtype=job.spec.output_dtype,
        canaries=made.canaries,
        engine_of=made.engine_of,
        checkpoint_rows=job.checkpoint_rows,
        checkpoints=checkpoints.count,
        engine=made.engine,
        hardware=hardware,
        attempts=checkpoints.attempts(),
        seconds={**seconds, "engine": round(sum(r.engine_seconds for r in records), 3)},
    )
    ensure_space(store, manifest)  # first: a committed shard always has something to be held against
    failpoints.reach("manifest.ready")
    checkpoints.check_repairs()
    first = write_manifest(store, job.shard.manifest_path, manifest)
    failpoints.reach("manifest.created")
    return first


def _together(found: Iterable[Reused]) -> list[Reused]:
    """Of each earlier shard once; of one that was made anew meanwhile, once as it was before."""
    sums: dict[tuple[str, str], Reused] = {}
    for one in found:
        of = one.folder, one.data_version
        sums[of] = sums[of] + one if of in sums else one
    return sorted(sums.values(), key=lambda one: (one.folder, one.data_version))
