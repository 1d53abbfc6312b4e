"""The monitor on a real S3 protocol server: what a look costs in requests, and that versions are told apart."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from embed_assets.monitor.lake import ReadOnlyLake
from embed_assets.monitor.scan import Scanner
from tests.kits.monitor_lake import FakeLake

pytestmark = pytest.mark.slow

COUNT = 200


@pytest.fixture
def options() -> Iterator[dict[str, Any]]:
    """How s3fs reaches a server of this test's own; the environment stays as it is."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "endpoint_url": f"http://{host}:{port}", "key": "test", "secret": "test", "skip_instance_cache": True,
    }  # fmt: skip
    server.stop()


def test_a_look_at_a_bucket_is_a_listing_and_the_changed_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    import fsspec
    from aiobotocore.client import AioBaseClient

    made = FakeLake(tmp_path, COUNT)
    for stride in range(COUNT):
        made.beat(stride, time.time())
    made.beat(7, time.time(), phase="committed")
    made.shard(7, time.time())
    bucket = fsspec.filesystem("s3", **options)
    bucket.mkdir("lake")
    bucket.put(str(tmp_path), "lake/monitored", recursive=True)

    asked: Counter[str] = Counter()
    real = AioBaseClient._make_api_call

    async def counting(self: Any, operation: str, *arguments: Any) -> Any:
        asked[operation] += 1
        return await real(self, operation, *arguments)

    monkeypatch.setattr(AioBaseClient, "_make_api_call", counting)
    scan = Scanner(ReadOnlyLake("s3://lake/monitored", **options))
    [run] = scan.look().runs
    assert len(run.beats) == COUNT and sorted(run.shards) == [7]
    assert asked["GetObject"] <= COUNT + 5 and asked["ListObjectsV2"] < 20 and asked["HeadObject"] < 8
    asked.clear()
    scan.look()
    assert asked == {"ListObjectsV2": 1}
    made.beat(3, time.time(), rows_done=301)  # as many bytes as before
    bucket.put_file(str(tmp_path / "progress/books-00003/a3.json"), "lake/monitored/progress/books-00003/a3.json")
    asked.clear()
    assert scan.look().runs[0].beats[3][0].beat.rows_done == 301
    assert asked == {"ListObjectsV2": 1, "GetObject": 1}
    assert not {name for name in asked if name.startswith(("Put", "Delete", "Copy"))}
