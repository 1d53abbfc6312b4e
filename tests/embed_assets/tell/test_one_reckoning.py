"""Summary, metadata, plan and monitor tell the same of a shard."""

from pathlib import Path

import dagster as dg
import pytest

from embed_assets.checks.proof import Proof
from embed_assets.drive.events import Committed
from embed_assets.estimate.speed import measured
from embed_assets.monitor.facts import Shard
from embed_assets.tell.metadata import shard_metadata
from embed_assets.tell.summary import shard_summary
from resources.compute import JobState, JobStatus
from resources.facts import JobFacts
from resources.lake import Lake
from tests.kits.drive.bench import job_of
from tests.kits.lake.shards import shard_manifest

ENGINES = 8
ATTEMPTS = [{"attempt": f"a{lane}", "lane": f"{lane} of {ENGINES}"} for lane in range(1, ENGINES + 1)]


def test_a_node_with_eight_engines(lake: Path) -> None:
    """Of 10,000 tokens 40 % were known; the others took each engine 100 s: 8 engines make 60 tokens a second."""
    manifest = shard_manifest(
        rows_in=500, rows_embedded=500, windows=1000, tokens=10_000, duplicate_windows=400, seconds={"engine": 800.0},
        attempts=ATTEMPTS, hardware={"gpus": ["NVIDIA L4"] * ENGINES, "engines": ENGINES},
    )  # fmt: skip
    summary = shard_summary(manifest, JobFacts(), {}, [])
    assert "| starts | 1 |" in summary and "| machine | 8× NVIDIA L4 |" in summary
    assert "| speed | 60 tokens/s, 5 rows/s |" in summary
    place = Lake(root=str(lake))
    outcome = Committed(job_of(place, 0), manifest, Proof(), JobStatus(JobState.SUCCEEDED), 1)
    metadata = shard_metadata(place, outcome, dg.AssetKey("strides"))
    assert (metadata["starts"], metadata["tokens_per_second"], metadata["rows_per_second"]) == (1, 60, 5)
    details = metadata["details"]
    assert len(details["attempts"]) == ENGINES and details["hardware"]["gpus"] == ["NVIDIA L4"] * ENGINES
    assert {name: speed.value for name, speed in measured([manifest]).items()} == {"L4:8": pytest.approx(60)}
    shard = Shard.of(manifest)
    assert (shard.starts, shard.accelerator, len(shard.attempts)) == (1, "8× NVIDIA L4", ENGINES)
