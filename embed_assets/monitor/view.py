"""From what the lake holds to what is going on: pure functions of one look and the time."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from embed_assets.estimate.costs import JobCost
from embed_assets.monitor.facts import RunKey, Shard
from embed_assets.monitor.models import Partition, Worker
from embed_assets.monitor.rates import Rate, Rates
from embed_assets.monitor.scan import Found, Run
from embed_assets.monitor.states import (
    FINDING,
    Manifest,
    State,
    alive,
    latest,
    reason_of,
    rows_done,
    standing,
    starts,
    state_of,
)
from embed_worker.lake.heartbeats import Seen

STRAGGLER_SHARE = 0.5
"""Of the median rate of workers on the same accelerator."""
MIN_PEERS = 4


@dataclass
class View:
    """Partitions and workers of the runs, and the run each belongs to."""

    partitions: dict[RunKey, list[Partition]]
    workers: dict[RunKey, list[Worker]]
    left: dict[RunKey, tuple[list[tuple[float, float]], list[float]]]
    """For the ETA: (rows left, rows/s) of those in hand; rows left of the others."""


def view_of(found: Found, rates: Rates, now: float) -> View:
    """Rates must have observed the look's heartbeats."""
    slow = stragglers(found, rates, now)
    costs: dict[tuple[str, str, str], list[JobCost]] = {}
    for cost in found.costs:
        costs.setdefault((cost.dataset, cost.spec_id, cost.partition), []).append(cost)
    view = View({}, {}, {})
    for run in found.runs:
        partitions, workers = view.partitions.setdefault(run.key, []), view.workers.setdefault(run.key, [])
        in_hand, others = view.left.setdefault(run.key, ([], []))
        for stride, rows in enumerate(run.strides.rows):
            key = run.strides.key(stride)
            beats = sorted(run.beats.get(stride, ()), key=lambda s: s.begun)
            mine = costs.get((run.key.dataset, run.key.spec_id, key), [])
            one = _partition(run, stride, rows, beats, mine, found.submitted.get(key), rates, slow, now)
            partitions.append(one)
            if stride not in run.shards:
                workers += _workers(beats, mine, rates, slow, now)
                if one.state is State.RUNNING and one.rows_per_second:
                    in_hand.append((float(rows - one.rows_done), one.rows_per_second))
                elif rows:
                    others.append(float(rows - one.rows_done))
    return view


def stragglers(found: Found, rates: Rates, now: float) -> set[str]:
    """Attempts slower than half the median of their like, where there are enough to compare."""
    known: dict[str, dict[str, float]] = {}
    for run in found.runs:
        for stride, beats in run.beats.items():
            for seen in beats if stride not in run.shards else ():
                rate = rates.of(seen.beat)
                if alive(seen, now) and seen.beat.phase == "embedding" and rate:
                    like = f"{run.key.spec_id} {seen.beat.machine}"
                    known.setdefault(like, {})[seen.beat.attempt] = rate.rows
    slow: set[str] = set()
    for group in known.values():
        if len(group) >= MIN_PEERS:
            bound = STRAGGLER_SHARE * median(group.values())
            slow |= {attempt for attempt, rate in group.items() if rate < bound}
    return slow


def _partition(
    run: Run, stride: int, rows: int, beats: list[Seen], costs: list[JobCost],
    submitted: float | None, rates: Rates, slow: set[str], now: float,
) -> Partition:  # fmt: skip
    shard, damage = run.shards.get(stride), run.damaged.get(stride)
    given_up = standing(run.given_up.get(stride), beats, submitted)
    manifest = Manifest.SOUND if shard else Manifest.DAMAGED if damage else Manifest.NONE
    state = state_of(manifest, beats, now, given_up)
    begun = max(starts(beats), shard.starts if shard else 0)
    last = latest(beats)
    key = run.strides.key(stride)
    common = {
        "key": key, "dataset": run.key.dataset, "run": run_name(run.key), "stride": stride, "state": state,
        "attempts": begun, "recoveries": max(0, begun - 1), "submitted": submitted is not None,
        "cost_usd": cost_so_far(shard, beats, costs),
    }  # fmt: skip
    if shard is not None:
        region = shard.region or (last.beat.region if last else None)
        return Partition(
            **common, rows=shard.rows, rows_done=shard.rows, tokens=shard.tokens, rejected=shard.rejected,
            seconds=shard.seconds, accelerator=shard.accelerator, region=region,
            rows_per_second=shard.rows / shard.seconds if shard.seconds and begun <= 1 else None,
        )  # fmt: skip
    living = [seen for seen in beats if alive(seen, now)]
    speeds = [rate for seen in living if seen.beat.phase == "embedding" and (rate := rates.of(seen.beat))]
    speed = sum(rate.rows for rate in speeds) or None
    done = min(rows, rows_done(beats, living))
    stopped = last.beat if last and last.beat.phase == "stopped" else None
    return Partition(
        **common,
        rows=rows,
        rows_done=done,
        tokens=max((seen.beat.tokens_done for seen in beats), default=0),
        rows_per_second=speed,
        eta_seconds=(rows - done) / speed if speed else None,
        straggler=any(seen.beat.attempt in slow for seen in living),
        age_seconds=last.age(now) if last else None,
        phase=last.beat.phase if last else None,
        ending=stopped.ending if stopped else None,
        error=damage.what if damage else reason_of(beats, given_up),
        accelerator=last.beat.machine if last else None,
        region=last.beat.region if last else None,
    )


def cost_so_far(shard: Shard | None, beats: Sequence[Seen], costs: Sequence[JobCost]) -> float | None:
    """Dollars of a partition's jobs: as the driver has noted, else price times seconds. None: not all known."""
    told = {cost.job: cost.usd for cost in costs}
    total, known = 0.0, bool(costs)
    for usd in told.values():
        if usd is None:
            return None
        total += usd
    names = {seen.beat.attempt for seen in beats}
    for seen in beats:
        if seen.beat.skypilot_job_id in told or not seen.beat.begins_a_start:
            continue
        if seen.beat.price_per_hour is None:
            return None
        total, known = total + seen.beat.price_per_hour * seen.beat.seconds / 3600, True
    if shard is not None and not costs and not names.issuperset(shard.attempts):
        if shard.price_per_hour is None or shard.seconds is None or len(set(shard.attempts) - names) > 1:
            return None  # heartbeats of an attempt are gone
        total, known = total + shard.price_per_hour * shard.seconds / 3600, True
    return total if known else None


def _workers(beats: list[Seen], costs: list[JobCost], rates: Rates, slow: set[str], now: float) -> list[Worker]:
    """Attempts that have not ended, but for those that a later start has replaced.

    What a worker does not know of its machine, the note of its job's cost may.
    """
    told = {cost.job: cost for cost in costs}
    living = [seen for seen in beats if alive(seen, now)]
    shown = living or [seen for seen in beats[-1:] if not seen.beat.over]
    workers = []
    for seen in shown:
        beat = seen.beat
        rate: Rate | None = rates.of(beat) if seen in living else None
        cost = told.get(beat.skypilot_job_id or "")
        number = starts([other for other in beats if other.begun <= seen.begun]) or 1
        workers.append(
            Worker(
                attempt=beat.attempt, partition=beat.shard.key, dataset=beat.shard.dataset,
                state="silent" if seen not in living else "loading" if beat.phase in FINDING else "working",
                phase=beat.phase, host=beat.host, lane=beat.lane, job=beat.skypilot_job_id, cloud=beat.cloud,
                region=beat.region, zone=beat.zone, accelerator=beat.machine,
                spot=cost.spot if beat.spot is None and cost else beat.spot,
                rows=beat.rows, rows_done=beat.rows_done,
                rows_per_second=rate.rows if rate else None, tokens_per_second=rate.tokens if rate else None,
                age_seconds=seen.age(now), seconds=beat.seconds, recoveries=number - 1, number=number,
                straggler=beat.attempt in slow,
                price_per_hour=cost.dollars_per_hour if beat.price_per_hour is None and cost else beat.price_per_hour,
            )
        )  # fmt: skip
    return workers


def run_name(key: RunKey) -> str:
    return f"{key.dataset}/{key.spec_id}/{key.cut}"
