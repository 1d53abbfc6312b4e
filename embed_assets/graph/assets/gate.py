"""The gate before publication: a set is made only of all shards, each committed, each with green checks in the lake."""

from collections.abc import Iterator
from datetime import UTC, datetime

from embed_assets.checks.outcome import Checked
from embed_assets.checks.proof import prove
from embed_assets.checks.shard import SHARD_CHECKS, ShardView
from embed_assets.graph.ready import current_delta, current_snapshot, current_strides
from embed_assets.spec import EmbeddingPipeline
from embed_worker.lake.checks import KeptCheck, KeptChecks, keep_checks, read_checks
from embed_worker.lake.deltas import DeltaManifest
from embed_worker.lake.errors import NotReady
from embed_worker.lake.identity import RowsDigest
from embed_worker.lake.layout import WHOLE, ShardId
from embed_worker.lake.manifests import ShardManifest
from embed_worker.lake.parallel import in_parallel
from embed_worker.lake.removed import by_stride, count_removed, read_removed
from embed_worker.lake.sets import SetDelta, SetManifest, SetShard
from resources.lake import Lake

NAMED = 20
"""Partitions that a refusal names."""


def keep_outcomes(lake: Lake, manifest: ShardManifest, outcomes: Checked) -> None:
    """Puts what the checks found beside the shard. Raises StoreUnavailable."""
    if not outcomes:
        return
    kept = {name: KeptCheck(passed=found.passed, description=found.description) for name, found in outcomes.items()}
    at = datetime.now(UTC).replace(microsecond=0)
    keep_checks(lake.store, manifest.shard, KeptChecks(data_version=manifest.data_version, at=at, checks=kept))


def complete_set(lake: Lake, pipeline: EmbeddingPipeline, name: str, *, check: bool) -> SetManifest:
    """The set of a dataset's current snapshot. Raises NotReady with the partitions that are not committed, or not
    green. `check`: those that were never checked are checked now; without it, they are not green."""
    dataset, spec_id = pipeline.dataset(name), pipeline.embedding.spec_id
    raw = current_snapshot(lake, dataset)
    cut, delta = current_strides(lake, dataset, raw), current_delta(lake, raw)
    entries = enumerate(cut.strides)
    shards = [ShardId.of(name, spec_id, cut.partitioning, stride, entry.digest) for stride, entry in entries]
    if delta.rows:
        shards.append(ShardId.of(name, spec_id, WHOLE, 0, delta.rows_digest))
    manifests = in_parallel(lake.shard, shards)
    if missing := [shard.key for shard, found in zip(shards, manifests, strict=True) if found is None]:
        count = f"{len(missing)} of {len(shards)} embedding_shards of {name} are not committed"
        raise NotReady(f"{count}: {_listed(missing)}. Materialize them first")
    there = [manifest for manifest in manifests if manifest is not None]
    found = in_parallel(lambda manifest: _verdict(lake, manifest, check=check), there)
    if red := list(_red(there, found)):
        raise NotReady(
            f"{len(red)} of {len(shards)} embedding_shards of {name} are not to be published: {_listed(red, '; ')}. "
            "Materialize them again, which repairs what is damaged"
        )
    first = next((manifest for manifest in there if manifest.dimension), there[0])
    members = [SetShard.of(m, list(f.checks)) for m, f in zip(there, found, strict=True) if f is not None]
    return SetManifest(
        dataset=name, spec_id=spec_id, ingest_id=cut.ingest_id, snapshot=raw.snapshot, method=cut.method,
        count=cut.count, dimension=first.dimension, dtype=first.dtype,
        shards=_less(lake, delta, shards, members[: cut.count], cut.rows),
        delta=None if delta.latest == delta.base else SetDelta(
            latest=delta.latest, data_version=delta.data_version, shard=members[-1] if delta.rows else None,
            removed=delta.removed,
        ),
    )  # fmt: skip


def _less(
    lake: Lake, delta: DeltaManifest, shards: list[ShardId], members: list[SetShard], base_rows: int
) -> list[SetShard]:
    """The base's shards, each with what of it the delta has removed."""
    if delta.removed is None:
        return members
    removed = read_removed(lake.store, delta.dataset, delta.ingest_id, delta.removed)
    of = by_stride(removed, shards[0].partitioning, base_rows)

    def less(one: SetShard) -> SetShard:
        if one.stride not in of:
            return one
        rows, windows = count_removed(lake.store, shards[one.stride].folder, one.files, of[one.stride])
        return one.model_copy(update={"rows_removed": rows, "windows_removed": windows})

    return in_parallel(less, members)


def _verdict(lake: Lake, manifest: ShardManifest, *, check: bool) -> KeptChecks | None:
    """What is known of these very data; None where nothing is, or not of all checks."""
    kept = read_checks(lake.store, manifest.shard)
    if kept is not None and kept.data_version == manifest.data_version and SHARD_CHECKS.keys() <= kept.checks.keys():
        return kept
    if not check:
        return None
    expected = RowsDigest.parse(manifest.rows_in, manifest.shard.input_digest)
    outcomes = prove(ShardView(lake.store, manifest.shard, manifest, expected), SHARD_CHECKS).checks
    keep_outcomes(lake, manifest, outcomes)
    return read_checks(lake.store, manifest.shard)


def _red(manifests: list[ShardManifest], found: list[KeptChecks | None]) -> Iterator[str]:
    for manifest, kept in zip(manifests, found, strict=True):
        if kept is None:
            yield f"{manifest.shard.key} (not checked)"
        elif kept.red:
            yield f"{manifest.shard.key} ({kept.red[0]})"


def _listed(names: list[str], between: str = ", ") -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return between.join(names[:NAMED]) + more
