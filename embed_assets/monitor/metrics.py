"""The same figures for Prometheus. What is not known has no sample."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from embed_assets.monitor.models import Partition, Progress
from embed_assets.monitor.states import State
from embed_assets.monitor.watch import Watch


def exposition(watch: Watch) -> tuple[bytes, str]:
    """Body and content type."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

    registry = CollectorRegistry()
    registry.register(_Collector(watch.progress, watch.all_partitions(), watch.lake.requests))
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


class _Collector:
    def __init__(self, progress: Progress, partitions: list[Partition], requests: Counter[str]) -> None:
        self._progress, self._partitions, self._requests = progress, partitions, requests

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        p = self._progress
        states = GaugeMetricFamily("embed_partitions", "Partitions by state.", labels=["dataset", "state"])
        counted = Counter((one.dataset, one.state) for one in self._partitions)
        for dataset in sorted({one.dataset for one in self._partitions}):
            for state in State:
                states.add_metric([dataset, state.value], counted[dataset, state])
        yield states
        for name, of in (("embed_rows", "rows"), ("embed_rows_done", "rows_done"), ("embed_tokens_done", "tokens")):
            family = GaugeMetricFamily(name, f"{name.removeprefix('embed_')} of the current runs.", labels=["dataset"])
            sums: Counter[str] = Counter()
            for one in self._partitions:
                sums[one.dataset] += getattr(one, of)
            for dataset, total in sorted(sums.items()):
                family.add_metric([dataset], total)
            yield family
        workers = GaugeMetricFamily("embed_workers", "Attempts alive or silent.", labels=["state"])
        workers.add_metric(["alive"], p.workers)
        workers.add_metric(["silent"], p.silent_workers)
        yield workers
        single: dict[str, tuple[str, float | None]] = {
            "embed_stragglers": ("Workers under half the median rate of their like.", p.stragglers),
            "embed_recoveries": ("Starts after the first, over all partitions.", p.recoveries),
            "embed_failed_attempts": ("Partitions, not committed, whose last attempt failed.", p.failed_attempts),
            "embed_damaged_files": ("Manifests of snapshots and strides that cannot be read.", len(p.damages)),
            "embed_rows_per_second": ("Rows a second of all workers.", p.rows_per_second),
            "embed_tokens_per_second": ("Tokens a second of all workers.", p.tokens_per_second),
            "embed_eta_seconds": ("Likely seconds to the end.", p.eta_seconds),
            "embed_spend_dollars": ("Dollars of jobs whose cost is known.", p.spend.usd),
            "embed_spend_unknown_jobs": ("Partitions whose cost is not known.", p.spend.unknown_jobs),
            "embed_spend_dollars_per_hour": ("Dollars an hour of all workers.", p.spend.usd_per_hour),
            "embed_monitor_last_look_seconds": ("When the lake was last read, since the epoch.", p.at),
            "embed_monitor_look_duration_seconds": ("What the last look took.", p.scan_seconds),
            "embed_monitor_lake_readable": ("1 where the last look succeeded.", 0 if p.error else 1),
        }
        for name, (text, value) in single.items():
            if value is not None:
                yield GaugeMetricFamily(name, text, value=value)
        asked = CounterMetricFamily("embed_monitor_lake_requests", "Calls to the lake.", labels=["kind"])
        for kind, number in sorted(self._requests.items()):
            asked.add_metric([kind], number)
        yield asked
