"""Rates over time: what this process has seen, and before that what the manifests' times tell."""

from collections.abc import Sequence

from embed_assets.monitor.facts import Shard
from embed_assets.monitor.models import Sample

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


def from_commits(shards: Sequence[Shard], until: float) -> list[Sample]:
    """Each shard's rows, spread evenly over the seconds of the attempt that committed it."""
    known = [(s.created - s.seconds, s.created, s) for s in shards if s.created is not None and s.seconds]
    known = [(begin, end, s) for begin, end, s in known if begin < until]
    if not known:
        return []
    first = min(begin for begin, _, _ in known)
    width = (until - first) / BUCKETS
    rows, tokens = [0.0] * BUCKETS, [0.0] * BUCKETS
    for begin, end, shard in known:
        low, high = int((begin - first) / width), min(BUCKETS - 1, int((min(end, until) - first) / width))
        for bucket in range(low, high + 1):
            left, right = first + bucket * width, first + (bucket + 1) * width
            share = max(0.0, min(end, right) - max(begin, left)) / (end - begin)
            rows[bucket] += share * shard.rows
            tokens[bucket] += share * shard.tokens
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
