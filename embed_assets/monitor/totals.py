"""Sums over the current runs: progress, ETA, spend, regions."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from embed_assets.estimate.costs import JobCost
from embed_assets.monitor.eta import eta, spread_of
from embed_assets.monitor.models import DamagedFile, Partition, Progress, Region, RunProgress, Spend, Worker
from embed_assets.monitor.scan import Found, Run
from embed_assets.monitor.states import State
from embed_assets.monitor.view import View, run_name

NOWHERE = "unknown"


def progress_of(
    found: Found, view: View, speeds: Sequence[float], *, revision: int, lake: str, interval_seconds: float
) -> Progress:
    """`speeds`: total rows/s of the last minutes."""
    runs = [run for run in found.runs if run.current]
    partitions = [p for run in runs for p in view.partitions[run.key]]
    workers = [w for run in runs for w in view.workers[run.key]]
    living = [w for w in workers if w.state != "silent"]
    rates = [w for w in living if w.rows_per_second is not None]
    in_hand = [hand for run in runs for hand in view.left[run.key][0]]
    others = [left for run in runs for left in view.left[run.key][1]]
    when = eta(in_hand, others, spread_of(speeds))
    return Progress(
        at=found.at,
        revision=revision,
        lake=lake,
        interval_seconds=interval_seconds,
        scan_seconds=found.seconds,
        rows=sum(p.rows for p in partitions),
        rows_done=sum(p.rows_done for p in partitions),
        tokens_done=sum(p.tokens for p in partitions),
        partitions=len(partitions),
        counts=counts_of(partitions),
        rows_per_second=sum(w.rows_per_second or 0 for w in rates) if rates else None,
        tokens_per_second=sum(w.tokens_per_second or 0 for w in rates) if rates else None,
        eta_seconds=when.likely if when else None,
        eta_low_seconds=when.low if when else None,
        eta_high_seconds=when.high if when else None,
        workers=len(living),
        silent_workers=len(workers) - len(living),
        stragglers=sum(w.straggler for w in living),
        recoveries=sum(p.recoveries for p in partitions),
        failed_attempts=sum(p.ending in ("failed", "bad_job") or p.state is State.FAILED for p in partitions),
        damages=[DamagedFile(path=damage.where, what=damage.what) for damage in found.damages],
        spend=spend_of(partitions, living, _costs(found, runs)),
        regions=regions_of(partitions, workers),
        runs=[_run(run, view.partitions[run.key]) for run in found.runs],
    )


def counts_of(partitions: Sequence[Partition]) -> dict[State, int]:
    counted = Counter(p.state for p in partitions)
    return {state: counted[state] for state in State}


def spend_of(partitions: Sequence[Partition], living: Sequence[Worker], costs: Sequence[JobCost]) -> Spend:
    """What is unknown is counted beside the sum. Nothing is projected from a part."""
    begun = [p for p in partitions if p.attempts]
    known = [p for p in begun if p.cost_usd is not None]
    unknown = len(begun) - len(known)
    usd = sum(p.cost_usd or 0.0 for p in known) if known else None
    rows, done = sum(p.rows for p in partitions), sum(p.rows_done for p in known)
    # The spot saving is known only where each job in the sum has told what it would have cost on demand.
    told = [cost.on_demand_usd for cost in costs]
    whole = bool(told) and None not in told and not unknown and len({c.partition for c in costs}) == len(known)
    prices = [w.price_per_hour for w in living if w.lane is None or w.lane.startswith("1 of")]
    return Spend(
        usd=usd,
        on_demand_usd=sum(value or 0.0 for value in told) if whole else None,
        known_jobs=len(known),
        unknown_jobs=unknown,
        projected_usd=usd / done * rows if usd is not None and done and not unknown else None,
        usd_per_hour=sum(p or 0.0 for p in prices) if prices and None not in prices else None,
    )


def regions_of(partitions: Sequence[Partition], workers: Sequence[Worker]) -> list[Region]:
    committed = Counter(p.region or NOWHERE for p in partitions if p.state is State.COMMITTED)
    at: dict[str, list[Worker]] = defaultdict(list)
    for worker in workers:
        at[worker.region or NOWHERE].append(worker)
    regions = [
        Region(
            region=name,
            workers=sum(w.state != "silent" for w in at[name]),
            silent=sum(w.state == "silent" for w in at[name]),
            committed=committed[name],
            rows_per_second=sum(w.rows_per_second or 0.0 for w in at[name]),
        )
        for name in {*committed, *at}
    ]
    return sorted(regions, key=lambda r: (-r.workers, -r.committed, r.region))


def _costs(found: Found, runs: Sequence[Run]) -> list[JobCost]:
    wanted = {(run.key.dataset, run.key.spec_id) for run in runs}
    return [cost for cost in found.costs if (cost.dataset, cost.spec_id) in wanted]


def _run(run: Run, partitions: Sequence[Partition]) -> RunProgress:
    return RunProgress(
        run=run_name(run.key),
        dataset=run.key.dataset,
        spec_id=run.key.spec_id,
        partitioning=run.key.partitioning.name,
        current=run.current,
        rows=sum(p.rows for p in partitions),
        rows_done=sum(p.rows_done for p in partitions),
        counts=counts_of(partitions),
    )
