"""What the store's calls cost on S3: requests, and memory."""

import subprocess
import sys
from pathlib import Path

import pytest

from embed_worker.lake import store as store_module
from embed_worker.lake.store import Store
from tests.kits.lake.fault_proxy import FaultProxy

pytestmark = pytest.mark.slow

PUT = """
import resource, sys
from pathlib import Path
from embed_worker.lake.store import Store
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
store = Store(sys.argv[1])
store.create("a", b"")
before = peak()
store.create_file("part.parquet", Path(sys.argv[2]))
print((peak() - before) << 10)
"""


def test_a_small_file_is_read_in_one_request(s3_server: str, s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultProxy(s3_server).running() as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        store = Store(s3_root, skip_instance_cache=True)
        store.create("a", b"1")
        before = proxy.requests
        assert store.read("a") == b"1"
        assert proxy.requests == before + 1
        with pytest.raises(FileNotFoundError):
            store.read("b")
        assert proxy.requests == before + 2


def test_a_file_goes_up_without_being_in_memory(s3_root: str, tmp_path: Path) -> None:
    source, size = tmp_path / "part", 256 << 20
    with source.open("wb") as file:
        file.truncate(size)
    command = [sys.executable, "-c", PUT, s3_root, str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    pieces = store_module.UPLOAD["chunksize"] * store_module.UPLOAD["max_concurrency"]
    assert int(done.stdout) < 3 * pieces < size
