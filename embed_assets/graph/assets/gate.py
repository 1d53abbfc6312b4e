"""The gate before publication: a set is made only of all shards, each committed, each with green checks in the lake."""

from collections.abc import Iterator
from datetime import UTC, datetime

from embed_assets.checks.outcome import Checked
from embed_assets.checks.proof import prove
from embed_assets.checks.shard import SHARD_CHECKS, ShardView
from embed_assets.graph.ready import current_snapshot, current_strides
from embed_assets.spec import EmbeddingPipeline
from embed_worker.lake.checks import KeptCheck, KeptChecks, keep_checks, read_checks
from embed_worker.lake.errors import NotReady
from embed_worker.lake.identity import RowsDigest
from embed_worker.lake.layout import ShardId
from embed_worker.lake.manifests import ShardManifest, StridesManifest
from embed_worker.lake.parallel import in_parallel
from embed_worker.lake.sets import SetManifest, SetShard
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
    cut = current_strides(lake, dataset, raw)
    entries = enumerate(cut.strides)
    shards = [ShardId.of(name, spec_id, cut.partitioning, stride, entry.digest) for stride, entry in entries]
    manifests = in_parallel(lake.shard, shards)
    if missing := [shard.key for shard, found in zip(shards, manifests, strict=True) if found is None]:
        count = f"{len(missing)} of {len(shards)} embedding_shards of {name} are not committed"
        raise NotReady(f"{count}: {_listed(missing)}. Materialize them first")
    there = [manifest for manifest in manifests if manifest is not None]
    found = in_parallel(lambda manifest: _verdict(lake, cut, manifest, check=check), there)
    if red := list(_red(there, found)):
        raise NotReady(
            f"{len(red)} of {len(shards)} embedding_shards of {name} are not to be published: {_listed(red, '; ')}. "
            "Materialize them again, which repairs what is damaged"
        )
    first = next((manifest for manifest in there if manifest.dimension), there[0])
    return SetManifest(
        dataset=name, spec_id=spec_id, ingest_id=cut.ingest_id, snapshot=raw.snapshot, method=cut.method,
        count=cut.count, dimension=first.dimension, dtype=first.dtype,
        shards=[SetShard.of(m, list(f.checks)) for m, f in zip(there, found, strict=True) if f is not None],
    )  # fmt: skip


def _verdict(lake: Lake, cut: StridesManifest, manifest: ShardManifest, *, check: bool) -> KeptChecks | None:
    """What is known of these very data; None where nothing is, or not of all checks."""
    kept = read_checks(lake.store, manifest.shard)
    if kept is not None and kept.data_version == manifest.data_version and SHARD_CHECKS.keys() <= kept.checks.keys():
        return kept
    if not check:
        return None
    entry = cut.strides[manifest.shard.stride]
    expected = RowsDigest.parse(entry.rows, entry.digest)
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
