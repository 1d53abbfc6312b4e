"""What the next update of a dataset will find to do, before anything is launched: from listings and the lake alone."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from embed_assets.estimate.costs import JobCost
from embed_assets.monitor.states import State
from embed_assets.spec import DatasetSpec, EmbeddingPipeline
from embed_assets.upkeep.status import DatasetStatus
from embed_worker.lake import layout
from embed_worker.lake.errors import BadManifest
from embed_worker.lake.manifests import read_manifest
from embed_worker.lake.snapshots import SeenSource, SourceEntry
from embed_worker.steps.errors import SourceError
from embed_worker.steps.source import find
from resources.lake import Lake


@dataclass(frozen=True)
class SourceChange:
    """A source beside what was read of it last."""

    files: int = 0
    to_read: int = 0
    """Files that are new, or whose stamp is another."""
    bytes_to_read: int = 0
    gone: int = 0
    """Files that were read and are no more."""
    fault: str = ""
    """Why it cannot be listed."""


@dataclass(frozen=True)
class Due:
    """Of one dataset."""

    pipeline: str
    dataset: str
    source: SourceChange
    partitions: int
    """Of embedding_shards, that of the delta among them where it adds rows."""
    due: int
    rows: int | None
    """Of the partitions that are due; None where they are not cut. Those whose texts are known cost nothing."""
    tokens: int | None
    """As many a row as the committed ones have; None before there is one."""
    usd: float | None
    """As much a row as the jobs of this spec have cost; None before one has ended, and where machines have no price."""
    jobs_measured: int


def due_of(lake: Lake, pipeline: EmbeddingPipeline, status: DatasetStatus, costs: Iterable[JobCost]) -> Due:
    """`status`: of the dataset, `costs`: of the pipeline."""
    dataset = pipeline.dataset(status.dataset)
    waiting = [key for key, state in status.partitions.items() if state is not State.COMMITTED]
    rows = _rows(lake, dataset, status, waiting)
    paid = [
        cost
        for cost in costs
        if cost.committed and cost.usd is not None and cost.rows
        and (cost.dataset, cost.spec_id) == (dataset.name, pipeline.embedding.spec_id)
    ]  # fmt: skip
    tokens = usd = None
    if rows is not None and status.rows_with_vector:
        tokens = round(rows * status.tokens / status.rows_with_vector)
    if rows is not None and paid:
        usd = rows * sum(cost.usd or 0.0 for cost in paid) / sum(cost.rows for cost in paid)
    return Due(
        pipeline=pipeline.name,
        dataset=dataset.name,
        source=change_of(lake, dataset),
        partitions=len(status.partitions),
        due=len(waiting),
        rows=rows,
        tokens=tokens,
        usd=usd,
        jobs_measured=len(paid),
    )


def change_of(lake: Lake, dataset: DatasetSpec) -> SourceChange:
    """Lists the source and opens none of its files."""
    try:
        files = [(file.url, file.stamp()) for file in find(dataset).files]
    except SourceError as error:
        return SourceChange(fault=str(error))
    except Exception as error:  # as many kinds as there are stores
        return SourceChange(fault=f"dataset {dataset.name}: {type(error).__name__}: {error}")
    readings = _readings(lake, dataset)
    known = {(entry.url, str(entry.stamp)) for one in readings for entry in one if entry.stamp is not None}
    new = [stamp for url, stamp in files if (url, str(stamp)) not in known]
    urls = {url for url, _ in files}
    gone = min((len({entry.url for entry in one} - urls) for one in readings[:2]), default=0)
    return SourceChange(len(files), len(new), sum(int(stamp.get("size") or 0) for stamp in new), gone)


def _readings(lake: Lake, dataset: DatasetSpec) -> list[list[SourceEntry]]:
    """The files as they were found last, where that made no snapshot; those of the latest snapshot; of the base."""
    which, found = (dataset.name, dataset.ingest_id), list[list[SourceEntry]]()
    with suppress(BadManifest):
        if (seen := read_manifest(lake.store, layout.raw_seen(*which), SeenSource)) is not None:
            found.append(seen.source)
    for pointed in (lake.latest, lake.base):
        with suppress(BadManifest):
            if (raw := pointed(*which)) is not None:
                found.append(raw.source)
    return found


def _rows(lake: Lake, dataset: DatasetSpec, status: DatasetStatus, keys: list[str]) -> int | None:
    strides = {layout.split_partition_key(key)[1] for key in keys}
    if None in strides and not status.rows_added:
        return None  # the delta is not made yet
    rows = status.rows_added if None in strides else 0
    if not strides - {None}:
        return rows
    with suppress(BadManifest):
        base = lake.base(dataset.name, dataset.ingest_id)
        cut = lake.cut(base, dataset.cut) if base is not None else None
        if cut is not None:
            return rows + sum(cut.strides[stride].rows for stride in strides if stride is not None)
    return status.rows + rows if status.snapshot else None
