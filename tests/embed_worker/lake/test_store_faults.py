"""Whole jobs, and the store itself, on an S3 server behind a proxy that does what real S3 does on bad days."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embed_worker.exits import ExitCode
from embed_worker.lake import clock
from embed_worker.lake import store as store_module
from embed_worker.lake.errors import StoreAway, StoreUnavailable
from embed_worker.lake.store import Store
from tests.kits import LONG
from tests.kits.attempt.jobs import leftovers, make_job, make_texts, manifest_of, prove, run, write_job
from tests.kits.lake.fault_proxy import STORM, FaultProxy
from tests.kits.lake.store_suite import race

pytestmark = pytest.mark.slow

TEXTS = [*make_texts(30), " "]
REJECTED = {303: "blank text"}
TIMES_OUT = {"connect_timeout": 5, "read_timeout": 1}


@contextmanager
def faulty(proxy: FaultProxy) -> Iterator[FaultProxy]:
    """In here, S3 as this process sees it lies behind the proxy."""
    with proxy.running(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(fsspec.config.conf, "s3", {"endpoint_url": proxy.url, "config_kwargs": TIMES_OUT})
        yield proxy


def run_to_the_end(job: Any) -> int:
    """Tries again as a managed job does; the number of attempts that failed."""
    for failures in range(10):
        try:
            run(job)
            return failures
        except StoreUnavailable:
            pass
    raise AssertionError("ten attempts failed")


# -- whole jobs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40) if LONG else [1])
def test_a_job_in_a_storm_of_faults_has_every_row_once(
    s3_server: str, s3_root: str, tmp_path: Path, seed: int, record_faults: Any
) -> None:
    """Two attempts at once, as after a preemption that was none."""
    with faulty(FaultProxy(s3_server, seed, STORM, lag=1.0)) as proxy:
        job = make_job(s3_root, TEXTS)
        twin = threading.Thread(target=run_to_the_end, args=(job,))
        twin.start()
        run_to_the_end(job)
        twin.join()
        record_faults(proxy)
        assert sum(proxy.faults.values()) > 5
    run(job)
    prove(job, TEXTS, tmp_path, REJECTED)
    assert leftovers(job) == []


def test_a_listing_that_lags_leaves_orphans_for_the_next_sweep(
    s3_server: str, s3_root: str, tmp_path: Path, record_faults: Any
) -> None:
    with faulty(FaultProxy(s3_server, lag=600)) as proxy:
        job = make_job(s3_root, TEXTS)
        assert run(job) is True
        assert proxy.faults["listing lag"]
        record_faults(proxy)
    prove(job, TEXTS, tmp_path, REJECTED)
    assert leftovers(job) == ["checkpoints"]
    assert run(job) is False
    assert leftovers(job) == []


# -- create-only puts whose answer gets lost ---------------------------------------------------------


@pytest.mark.parametrize("fault", ["answer dropped", "answer timed out"])
def test_a_put_knows_its_own_object_when_the_answer_got_lost(
    s3_server: str, s3_root: str, tmp_path: Path, fault: str
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"from a file")
    with faulty(FaultProxy(s3_server)) as proxy:
        store = Store(s3_root)
        proxy.next_faults = [("PUT /lake", fault)]
        assert store.create("a", b"bytes") is True
        assert store.create("a", b"bytes") is False, "the same content, but another's put"
        proxy.next_faults = [("PUT /lake", fault)]
        assert store.create_file("b", source) is True
        assert store.create_file("b", source) is False
        assert store.read("a") == b"bytes" and store.read("b") == b"from a file"


def test_a_loser_whose_answer_got_lost_has_lost(s3_server: str, s3_root: str) -> None:
    Store(s3_root).create("a", b"first")
    with faulty(FaultProxy(s3_server)) as proxy:
        proxy.next_faults = [("PUT /lake", "answer dropped")]
        assert Store(s3_root).create("a", b"first") is False


def test_one_winner_though_every_first_answer_gets_lost(s3_server: str, s3_root: str) -> None:
    with faulty(FaultProxy(s3_server)) as proxy:
        for number in range(10 if LONG else 2):
            proxy.next_faults = [(f"race-{number}", "answer dropped")] * 8
            winners = race(8, lambda n, number=number: Store(s3_root).create(f"race-{number}", b"alike"))  # type: ignore[misc]
            assert len(winners) == 1


def test_the_lost_end_of_a_multipart_upload_is_known(
    s3_server: str, s3_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "big"
    source.write_bytes(b"0123456789abcdef" * (11 << 16))
    with faulty(FaultProxy(s3_server)) as proxy:
        store = Store(s3_root)
        monkeypatch.setitem(store_module.UPLOAD, "chunksize", 5 << 20)
        proxy.next_faults = [("?uploadId=", "answer dropped")]
        assert store.create_file("big", source) is True
        assert proxy.faults["answer dropped"] == 1
        assert store.create_file("big", source) is False


# -- other faults ------------------------------------------------------------------------------------


def test_what_the_server_refuses_to_delete_is_asked_for_again(s3_server: str, s3_root: str) -> None:
    """DeleteObjects answers 200 and lists the files that it did not delete; s3fs does not look."""
    with faulty(FaultProxy(s3_server)) as proxy:
        store = Store(s3_root)
        for path in ("file", "folder/a", "folder/sub/b"):
            store.create(path, b"1")
        for path in ("file", "folder"):
            proxy.next_faults = [("?delete", "delete refused")]
            store.delete(path)
        assert proxy.faults["delete refused"] == 2
        assert list(store.walk("")) == []


def test_a_file_that_the_listing_does_not_show_yet_is_deleted(s3_server: str, s3_root: str) -> None:
    with faulty(FaultProxy(s3_server, lag=600)):
        store = Store(s3_root)
        store.create("a", b"1")
        store.delete("a")
        assert not store.exists("a")


def test_a_put_that_hangs_comes_to_an_end(s3_server: str, s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No time-out of the HTTP client runs while it waits for leave to send: without a deadline this takes for ever."""
    monkeypatch.setattr(clock, "PUT_SECONDS", 1.0)
    with faulty(FaultProxy(s3_server)) as proxy:
        proxy.next_faults = [("PUT /lake", "no leave to send")]
        with pytest.raises(StoreUnavailable, match="does not answer as it should"):
            Store(s3_root).create("a", b"1")


@pytest.mark.parametrize("code", ["SlowDown", "InternalError", "ServiceUnavailable"])
def test_each_kind_of_error_is_asked_through(s3_server: str, s3_root: str, code: str) -> None:
    with faulty(FaultProxy(s3_server)) as proxy:
        store = Store(s3_root)
        proxy.next_faults = [("PUT", f"error {code}"), ("HEAD", f"error {code}"), ("GET", "reset in answer")]
        assert store.create("a", b"1") is True
        assert store.exists("a") and store.read("a") == b"1"
        assert not proxy.next_faults


@pytest.mark.parametrize("read", [lambda file: file.read(), pq.read_table], ids=["bytes", "parquet"])
def test_a_server_that_goes_away_while_a_file_is_read_is_away(
    s3_server: str, s3_root: str, tmp_path: Path, read: Callable[[IO[bytes]], object]
) -> None:
    """Not an error of the client's library, which nobody waits out."""
    local = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": range(100)}), local)
    with faulty(FaultProxy(s3_server)) as proxy:
        store = Store(s3_root)
        store.create_file("a.parquet", local)
        with store.open("a.parquet") as file:
            proxy.next_faults = [("GET", "reset in answer")] * 20
            with pytest.raises(StoreAway, match=r"a\.parquet: the store"):
                read(file)
        proxy.next_faults = []
        with store.open("a.parquet", sparse=True) as file:
            assert pq.read_table(file).num_rows == 100


class Expiring(FaultProxy):
    """The credentials expire just before the third checkpoint's record."""

    def draw(self, request: str) -> str:
        if request.startswith("PUT") and "/000002.json" in request:
            self.expired_keys.add("old")
        return super().draw(request)


def test_credentials_that_expire_in_mid_run_give_one_clear_error_and_the_job_resumes(
    s3_server: str, s3_root: str, tmp_path: Path, record_faults: Any
) -> None:
    job = make_job(s3_root, TEXTS)
    url = write_job(job)
    with Expiring(s3_server).running() as proxy:

        def worker(key: str) -> subprocess.CompletedProcess[str]:
            environment = {**os.environ, "AWS_ENDPOINT_URL": proxy.url, "AWS_ACCESS_KEY_ID": key}
            command = [sys.executable, "-m", "embed_worker", url]
            return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)

        ended = worker("old")
        assert ended.returncode == ExitCode.UNAVAILABLE, ended.stderr
        assert ended.stderr.count("the credentials have expired. Renew them") in (1, 2)  # the heartbeat says so, too
        assert "Traceback" not in ended.stderr
        record_faults(proxy)
        committed = {path for path, _ in Store(s3_root).walk(job.shard.folder) if path.endswith(".json")}
        assert len([path for path in committed if "/rows-" in path]) == 2

        ended = worker("renewed")
        assert ended.returncode == ExitCode.DONE, ended.stderr
    prove(job, TEXTS, tmp_path, REJECTED)
    assert leftovers(job) == []
    assert len(manifest_of(job).attempts) == 2
