"""Lakes for the monitor's tests, made of manifests and heartbeats alone: thousands of partitions in a moment."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from embed_worker.lake import layout
from embed_worker.lake.layout import Partitioning, ShardId
from embed_worker.lake.manifests import InputRef, ShardManifest, StrideEntry, StridesManifest
from embed_worker.lake.seal import sealed
from embed_worker.lake.snapshots import Pointer, RawManifest
from embed_worker.lake.spec import EmbeddingSpec

SNAPSHOT = "0123456789ab"
INGEST_ID = "0123456789abcdef"
MODEL = EmbeddingSpec(model="Alibaba-NLP/gte-Qwen2-7B-instruct", pooling="last", attention="bidirectional")
SPEC = MODEL.spec_id


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def digest(stride: int) -> str:
    """Of a stride's rows."""
    return f"{stride + 1:032x}"


class FakeLake:
    """One dataset cut in `count`."""

    def __init__(
        self, root: Path, count: int, rows: int = 1000, dataset: str = "books", ingest_id: str = INGEST_ID
    ) -> None:
        self.root, self.count, self.rows, self.dataset = root, count, rows, dataset
        self.partitioning = Partitioning("stride", count)
        self.cut = f"{ingest_id}-{self.partitioning.name}"
        self.base = layout.raw_base(dataset, ingest_id)
        self.raw = layout.snapshot_file(dataset, ingest_id, SNAPSHOT)
        self.strides = layout.cut_file(layout.strides_folder(dataset, ingest_id, self.partitioning), SNAPSHOT)
        made = "2026-01-01T00:00:00+00:00"
        entries = [StrideEntry(rows=rows, bytes=0, digest=digest(stride)) for stride in range(count)]
        self.manifest(self.base, Pointer(snapshot=SNAPSHOT))
        self.manifest(
            self.raw,
            RawManifest(created_at=made, dataset=dataset, ingest_id=ingest_id, snapshot=SNAPSHOT, source=[], ingest={},
                        parts=[], records=0, rows=0, rows_digest="0"),
        )  # fmt: skip
        self.manifest(
            self.strides,
            StridesManifest(created_at=made, dataset=dataset, ingest_id=ingest_id, snapshot=SNAPSHOT, method="stride",
                            count=count, rows=rows * count, rows_digest=f"{sum(range(1, count + 1)):032x}", slices=[],
                            strides=entries),
        )  # fmt: skip

    def manifest(self, path: str, manifest: BaseModel) -> None:
        self.put(path, sealed(path, manifest.model_dump(mode="json")).decode())

    def put(self, path: str, value: Any, written: float | None = None) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name("." + target.name + ".tmp")
        temporary.write_text(value if isinstance(value, str) else json.dumps(value))
        if written is not None:
            os.utime(temporary, (written, written))
        temporary.replace(target)

    def key(self, stride: int) -> str:
        return f"{self.dataset}-{stride:05d}"

    def id(self, stride: int, spec_id: str = SPEC) -> ShardId:
        return ShardId.of(self.dataset, spec_id, self.partitioning, stride, digest(stride))

    def shard_path(self, stride: int) -> str:
        return self.id(stride).manifest_path

    def shard(self, stride: int, now: float, *attempts: str, took: float = 600.0, **more: Any) -> None:
        values = {
            "pipeline": "p", "shard": self.id(stride), "spec": MODEL, "created_at": iso(now), "rows_in": self.rows,
            "rows_embedded": self.rows - 1, "rows_rejected": 1, "rejects_by_reason": {"blank text": 1}, "files": [],
            "input": InputRef(path="stride_partitions", digest=digest(stride), rows=self.rows),
            "windows": self.rows - 1, "tokens": self.rows * 90, "duplicate_windows": 0, "dimension": 8,
            "dtype": "float32", "canaries": None, "checkpoint_rows": 1024, "checkpoints": 1, "engine": {},
            "attempts": [{"attempt": name} for name in attempts or (f"a{stride}",)], "seconds": {"total": took},
            "hardware": {"gpus": ["NVIDIA L4"], "cores": 8},
        }  # fmt: skip
        self.manifest(self.shard_path(stride), ShardManifest.model_validate(values | more))

    def beat(self, stride: int, now: float, attempt: str | None = None, age: float = 1.0, **more: Any) -> None:
        """`age`: seconds since it was written, by the lake's clock; the worker's own is told in `at`."""
        attempt = attempt or f"a{stride}"
        value = {
            "format": 2, "pipeline": "p", "shard": self.id(stride).model_dump(), "attempt": attempt,
            "rows": self.rows, "rows_done": 300, "tokens_done": 27000, "rows_own": 300, "tokens_own": 27000, "phase": "embedding", "at": iso(now - age), "seconds": 320.0,
            "phase_seconds": 300.0, "every_seconds": 5.0, "host": f"node-{stride}",
            "hardware": {"gpus": ["NVIDIA L4"], "cores": 8},
        }  # fmt: skip
        self.put(f"progress/{self.key(stride)}/{attempt}.json", value | more, written=now - age)

    def give_up(self, stride: int, at: float, error: str = "no capacity") -> None:
        word = {"shard": self.id(stride).model_dump(), "error": error}
        self.put(f"progress/{self.key(stride)}/_given-up-f.json", word, written=at)


REGIONS = [("us-east4", "a"), ("us-central1", "b"), ("europe-west4", "c"), ("asia-northeast1", "a"), ("us-west1", "b")]


def large(root: Path, now: float, count: int = 1000, every: float = 5.0) -> FakeLake:
    """A run of a thousand partitions in its middle: every state, five regions, prices, a straggler.

    `every`: seconds between the heartbeats of those at work; with many, they stay alive for a slow test.
    """
    lake = FakeLake(root, count, rows=29_500)
    for stride in range(count):
        region, zone = REGIONS[stride * 7 % len(REGIONS)]
        where = {"cloud": "GCP", "region": region, "zone": f"{region}-{zone}", "spot": stride % 9 != 0,
                 "price_per_hour": 0.2177 if stride % 9 else 0.7065, "skypilot_job_id": str(1000 + stride)}  # fmt: skip
        kind = (stride * 617) % 1000  # spread over the grid
        if kind < 420:
            took = 1400.0 + stride % 400
            names = [f"a{stride}"] if stride % 11 else [f"a{stride}", f"b{stride}"]
            for name in names:
                end = {"phase": "committed"} if name == names[-1] else {"phase": "stopped", "ending": "preempted"}
                lake.beat(stride, now, name, age=30.0 + 4 * (420 - kind) + (600 if name != names[-1] else 0),
                          seconds=took / len(names), rows_done=29_500, rows_own=29_500 // len(names), **end, **where)  # fmt: skip
            attempts = [{"attempt": name, "region": region} for name in names]
            lake.shard(stride, now - 30 - 4 * (420 - kind), *names, took=took, attempts=attempts)
        elif kind < 760:
            seconds = 60.0 + (kind - 420) * 3.6
            rate = 4.0 if kind == 700 else 19.0 + stride % 5
            done = min(29_000, int(seconds * rate) // 1024 * 1024)
            lake.beat(stride, now, age=2.0, seconds=seconds + 70, phase_seconds=seconds, rows_done=done, rows_own=done,
                      tokens_done=done * 92, tokens_own=done * 92, every_seconds=every, **where)  # fmt: skip
        elif kind < 775:
            lake.beat(stride, now, age=200, phase="stopped", ending="preempted", rows_done=9000 + kind, **where)
        elif kind < 780:
            lake.beat(stride, now, age=2000, rows_done=6000, **where)
        elif kind < 783:
            error = "model.safetensors is not the pinned weights: its sha256 differs"
            lake.beat(stride, now, age=900, phase="stopped", ending="bad_job", error=error, rows_done=0, **where)
        elif kind < 900:
            lake.put(f"jobs/{lake.key(stride)}/f.json", {})
    return lake
