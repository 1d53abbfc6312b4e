"""From what the lake holds to what is going on: pure functions of one look and the time."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from embed_assets.monitor.facts import Beat, Cost, RunKey, Shard
from embed_assets.monitor.models import Partition, State, Worker
from embed_assets.monitor.rates import Rate, Rates
from embed_assets.monitor.scan import Found, Run, Seen
from embed_worker.lake.layout import partition_key

SILENT_SECONDS = 60.0
"""A heartbeat older than this, or than four of its own intervals, is silent."""
RECOVER_SECONDS = 15 * 60.0
"""How long the next attempt is awaited; afterwards a partition that ended is failed or stale."""
STRAGGLER_SHARE = 0.5
"""Of the median rate of workers on the same accelerator."""
MIN_PEERS = 4
FINDING = ("starting", "loading model")


def silent_after(beat: Beat) -> float:
    return max(SILENT_SECONDS, 4 * (beat.every_seconds or 0.0))


def alive(seen: Seen, now: float) -> bool:
    return not seen.beat.over and seen.age(now) < silent_after(seen.beat)


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
    costs: dict[tuple[str, str, str], list[Cost]] = {}
    for cost in found.costs:
        costs.setdefault((cost.dataset, cost.spec_id, cost.partition), []).append(cost)
    view = View({}, {}, {})
    for run in found.runs:
        partitions, workers = view.partitions.setdefault(run.key, []), view.workers.setdefault(run.key, [])
        in_hand, others = view.left.setdefault(run.key, ([], []))
        for stride, rows in enumerate(run.strides.rows):
            key = partition_key(run.key.dataset, stride)
            beats = sorted(run.beats.get(stride, ()), key=lambda s: (s.beat.at or 0.0) - s.beat.seconds)
            mine = costs.get((run.key.dataset, run.key.spec_id, key), [])
            shard = run.shards.get(stride)
            one = _partition(run, stride, rows, shard, beats, mine, key in found.submitted, rates, slow, now)
            partitions.append(one)
            if shard is None:
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
                    like = f"{run.key.spec_id} {seen.beat.accelerator}"
                    known.setdefault(like, {})[seen.beat.attempt] = rate.rows
    slow: set[str] = set()
    for group in known.values():
        if len(group) >= MIN_PEERS:
            bound = STRAGGLER_SHARE * median(group.values())
            slow |= {attempt for attempt, rate in group.items() if rate < bound}
    return slow


def starts(beats: Sequence[Seen]) -> int:
    """The engines of a node start together: only the first lane counts."""
    return sum(1 for seen in beats if _first_lane(seen.beat))


def _first_lane(beat: Beat) -> bool:
    return beat.lane is None or beat.lane.startswith("1 of")


def state_of(shard: Shard | None, beats: Sequence[Seen], now: float) -> State:
    """`beats` by start, oldest first."""
    if shard is not None:
        return State.COMMITTED
    living = [seen for seen in beats if alive(seen, now)]
    if any(seen.beat.phase not in FINDING for seen in living):
        return State.RUNNING
    if living:
        return State.RECOVERING if starts(beats) > starts(living) else State.RUNNING
    if not beats or all(seen.beat.phase == "committed" for seen in beats):
        return State.WAITING  # the last: its manifest was taken away
    latest = max(beats, key=lambda seen: seen.beat.at or 0.0)
    if latest.beat.phase != "stopped":
        return State.STALE
    if latest.beat.ending == "refused":
        return State.FAILED
    if latest.age(now) < RECOVER_SECONDS:
        return State.RECOVERING
    return State.FAILED if latest.beat.ending == "failed" else State.STALE


def _partition(
    run: Run, stride: int, rows: int, shard: Shard | None, beats: list[Seen], costs: list[Cost],
    submitted: bool, rates: Rates, slow: set[str], now: float,
) -> Partition:  # fmt: skip
    state = state_of(shard, beats, now)
    begun = max(starts(beats), shard.starts if shard else 0)
    latest = max(beats, key=lambda seen: seen.beat.at or 0.0) if beats else None
    key = partition_key(run.key.dataset, stride)
    common = {
        "key": key, "dataset": run.key.dataset, "run": run_name(run.key), "stride": stride, "state": state,
        "attempts": begun, "recoveries": max(0, begun - 1), "submitted": submitted,
        "cost_usd": cost_so_far(shard, beats, costs),
    }  # fmt: skip
    if shard is not None:
        region = shard.region or (latest.beat.region if latest else None)
        return Partition(
            **common, rows=shard.rows, rows_done=shard.rows, tokens=shard.tokens, rejected=shard.rejected,
            seconds=shard.seconds, accelerator=shard.accelerator, region=region,
            rows_per_second=shard.rows / shard.seconds if shard.seconds and begun <= 1 else None,
        )  # fmt: skip
    living = [seen for seen in beats if alive(seen, now)]
    speeds = [rate for seen in living if seen.beat.phase == "embedding" and (rate := rates.of(seen.beat))]
    speed = sum(rate.rows for rate in speeds) or None
    done = min(rows, rows_done(beats, living))
    return Partition(
        **common,
        rows=rows,
        rows_done=done,
        tokens=max((seen.beat.tokens_done for seen in beats), default=0),
        rows_per_second=speed,
        eta_seconds=(rows - done) / speed if speed else None,
        straggler=any(seen.beat.attempt in slow for seen in living),
        age_seconds=latest.age(now) if latest else None,
        phase=latest.beat.phase if latest else None,
        error=latest.beat.error if latest and latest.beat.phase == "stopped" else None,
        accelerator=latest.beat.accelerator if latest else None,
        region=latest.beat.region if latest else None,
    )


def rows_done(beats: Sequence[Seen], living: Sequence[Seen]) -> int:
    """Rows in checkpoints: what some attempt counted, or what the engines of a node have made side by side."""
    counted = max((seen.beat.rows_done for seen in beats), default=0)
    lanes = [seen.beat for seen in living if seen.beat.lane is not None]
    found = max(
        (beat.rows_done - (beat.rows_own or 0) for beat in lanes if beat.lane and not _first_lane(beat)), default=0
    )
    return max(counted, found + sum(beat.rows_own or 0 for beat in lanes))


def cost_so_far(shard: Shard | None, beats: Sequence[Seen], costs: Sequence[Cost]) -> float | None:
    """Dollars of a partition's jobs: as the driver has noted, else price times seconds. None: not all known."""
    told = {cost.job: cost.usd for cost in costs}
    total, known = 0.0, bool(costs)
    for usd in told.values():
        if usd is None:
            return None
        total += usd
    names = {seen.beat.attempt for seen in beats}
    for seen in beats:
        if seen.beat.job in told or not _first_lane(seen.beat):
            continue
        if seen.beat.price_per_hour is None:
            return None
        total, known = total + seen.beat.price_per_hour * seen.beat.seconds / 3600, True
    if shard is not None and not costs and not names.issuperset(shard.attempts):
        if shard.price_per_hour is None or shard.seconds is None or len(set(shard.attempts) - names) > 1:
            return None  # heartbeats of an attempt are gone
        total, known = total + shard.price_per_hour * shard.seconds / 3600, True
    return total if known else None


def _workers(beats: list[Seen], costs: list[Cost], rates: Rates, slow: set[str], now: float) -> list[Worker]:
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
        cost = told.get(beat.job or "")
        number = starts([s for s in beats if (s.beat.at or 0) - s.beat.seconds <= (beat.at or 0) - beat.seconds]) or 1
        workers.append(
            Worker(
                attempt=beat.attempt, partition=beat.partition, dataset=beat.run.dataset,
                state="silent" if seen not in living else "loading" if beat.phase in FINDING else "working",
                phase=beat.phase, host=beat.host, lane=beat.lane, job=beat.job, cloud=beat.cloud,
                region=beat.region, zone=beat.zone, accelerator=beat.accelerator,
                spot=cost.spot if beat.spot is None and cost else beat.spot,
                rows=beat.rows, rows_done=beat.rows_done,
                rows_per_second=rate.rows if rate else None, tokens_per_second=rate.tokens if rate else None,
                age_seconds=seen.age(now), seconds=beat.seconds, recoveries=number - 1, number=number,
                straggler=beat.attempt in slow,
                price_per_hour=cost.per_hour if beat.price_per_hour is None and cost else beat.price_per_hour,
            )
        )  # fmt: skip
    return workers


def run_name(key: RunKey) -> str:
    return f"{key.dataset}/{key.spec_id}/{key.partitioning}"
