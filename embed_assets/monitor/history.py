"""Rates over time: what this process has seen, and before that what manifests and heartbeats tell."""

from collections.abc import Sequence
from dataclasses import dataclass

from embed_assets.monitor.models import Sample
from embed_assets.monitor.scan import Run

LIMIT = 1200
BUCKETS = 120


class History:
    """At most LIMIT samples: when it is full, every second one of the older half goes."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []

    def add(self, sample: Sample) -> None:
        self.samples.append(sample)
        if len(self.samples) > LIMIT:
            half = LIMIT // 2
            self.samples = self.samples[:half:2] + self.samples[half:]

    def last_rates(self, since: float) -> list[float]:
        return [s.rows_per_second for s in self.samples if s.at >= since and s.workers is not None]


@dataclass(frozen=True)
class Stretch:
    """Rows and tokens that were made between two moments."""

    begin: float
    end: float
    rows: int
    tokens: int


def stretches(run: Run, now: float) -> list[Stretch]:
    """What the committed partitions, and the attempts that are at work, tell of the past."""
    found = [
        Stretch(shard.created - shard.seconds, shard.created, shard.rows, shard.tokens)
        for shard in run.shards.values()
        if shard.created is not None and shard.seconds
    ]
    for seen in (seen for stride, beats in run.beats.items() if stride not in run.shards for seen in beats):
        beat = seen.beat
        if beat.rows_own and beat.phase_seconds and not beat.over:
            found.append(Stretch(seen.written - beat.phase_seconds, seen.written, beat.rows_own, beat.tokens_own))
    return [one for one in found if one.begin < min(one.end, now)]


def from_the_past(known: Sequence[Stretch], until: float) -> list[Sample]:
    """Each stretch's rows, spread evenly over its seconds."""
    if not known:
        return []
    first = min(one.begin for one in known)
    width = (until - first) / BUCKETS
    rows, tokens = [0.0] * BUCKETS, [0.0] * BUCKETS
    for one in known:
        low, high = (min(BUCKETS - 1, int((min(at, until) - first) / width)) for at in (one.begin, one.end))
        for bucket in range(low, high + 1):
            left, right = first + bucket * width, first + (bucket + 1) * width
            share = max(0.0, min(one.end, right) - max(one.begin, left)) / (one.end - one.begin)
            rows[bucket] += share * one.rows
            tokens[bucket] += share * one.tokens
    samples, all_rows, all_tokens = [], 0.0, 0.0
    for bucket in range(BUCKETS):
        all_rows += rows[bucket]
        all_tokens += tokens[bucket]
        samples.append(
            Sample(
                at=first + (bucket + 1) * width,
                rows_done=round(all_rows),
                tokens_done=round(all_tokens),
                rows_per_second=rows[bucket] / width,
                tokens_per_second=tokens[bucket] / width,
                workers=None,
            )
        )
    return samples
