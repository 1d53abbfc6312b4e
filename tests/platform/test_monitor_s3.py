"""The monitor on a real S3 protocol server: what a look costs in requests, and that versions are told apart."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from embed_assets.monitor.lake import ReadOnlyLake
from embed_assets.monitor.scan import Scanner
from tests.platform.monitor_lake import FakeLake
from tests.worker.conftest import s3_server  # noqa: F401 - a fixture

COUNT = 200


@pytest.mark.usefixtures("s3_server")
def test_a_look_at_a_bucket_is_a_listing_and_the_changed_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec
    from aiobotocore.client import AioBaseClient

    made = FakeLake(tmp_path, COUNT)
    for stride in range(COUNT):
        made.beat(stride, time.time())
    made.beat(7, time.time(), phase="committed")
    made.shard(7, time.time())
    bucket = fsspec.filesystem("s3")
    bucket.put(str(tmp_path), "lake/monitored", recursive=True)

    asked: Counter[str] = Counter()
    real = AioBaseClient._make_api_call

    async def counting(self: Any, operation: str, *arguments: Any) -> Any:
        asked[operation] += 1
        return await real(self, operation, *arguments)

    monkeypatch.setattr(AioBaseClient, "_make_api_call", counting)
    scan = Scanner(ReadOnlyLake("s3://lake/monitored"))
    [run] = scan.look().runs
    assert len(run.beats) == COUNT and sorted(run.shards) == [7]
    assert asked["GetObject"] <= COUNT + 5 and asked["ListObjectsV2"] < 20 and asked["HeadObject"] < 5
    asked.clear()
    scan.look()
    assert asked == {"ListObjectsV2": 1}
    made.beat(3, time.time(), rows_done=301)  # as many bytes as before
    bucket.put_file(str(tmp_path / "progress/books-00003/a3.json"), "lake/monitored/progress/books-00003/a3.json")
    asked.clear()
    assert scan.look().runs[0].beats[3][0].beat.rows_done == 301
    assert asked == {"ListObjectsV2": 1, "GetObject": 1}
    assert not {name for name in asked if name.startswith(("Put", "Delete", "Copy"))}
