"""A lake or a hub that is away is waited for, so long and no longer."""

import threading
from pathlib import Path
from typing import Any

import pytest
from tenacity import wait_none

from embed_worker.__main__ import Worker
from embed_worker.attempt import patience
from embed_worker.attempt.checkpoints import Checkpoints
from embed_worker.attempt.patience import NONE, Patience, PatientStore
from embed_worker.engine import weights
from embed_worker.errors import ModelAway
from embed_worker.exits import ExitCode
from embed_worker.lake.errors import NoPermission, StoreAway
from embed_worker.lake.store import Store
from tests.kits.attempt.jobs import make_job, make_spec, make_texts, prove, write_job

TEXTS = make_texts(20)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "wait_random_exponential", lambda **_: wait_none())


def away(monkeypatch: pytest.MonkeyPatch, method: str, times: int, error: Exception) -> list[str]:
    """So many calls of a store's method fail."""
    calls: list[str] = []
    real = getattr(Store, method)

    def call(self: Store, path: str, *more: Any) -> Any:
        calls.append(path)
        if len(calls) <= times:
            raise error
        return real(self, path, *more)

    monkeypatch.setattr(Store, method, call)
    return calls


@pytest.mark.parametrize("method", ["exists", "read", "list", "create", "create_file", "delete"])
def test_a_lake_that_comes_back_costs_no_start(
    lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    job = make_job(lake, TEXTS)
    url = write_job(job)
    calls = away(monkeypatch, method, 5, StoreAway("away"))
    assert Worker(patience_seconds=60).run(url) == (ExitCode.DONE, None)
    assert len(calls) > 5
    prove(job, TEXTS, tmp_path)


def test_where_the_time_is_up_the_machine_is_given_back(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(lake, TEXTS)
    url = write_job(job)
    away(monkeypatch, "create_file", 10**9, StoreAway("away"))
    assert Worker(patience_seconds=0.2).run(url) == (ExitCode.UNAVAILABLE, "away")
    assert Worker().run(url) == (ExitCode.UNAVAILABLE, "away")


def test_a_worker_that_is_told_to_stop_waits_no_longer(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = write_job(make_job(lake, TEXTS))
    process = Worker(patience_seconds=10**6)
    calls = away(monkeypatch, "create_file", 10**9, StoreAway("away"))
    threading.Timer(0.3, process.stop.set).start()
    assert process.run(url)[0] is ExitCode.PREEMPTED
    assert calls


def test_a_refusal_is_not_waited_out(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = write_job(make_job(lake, TEXTS))
    calls = away(monkeypatch, "create_file", 10**9, NoPermission("no"))
    assert Worker(patience_seconds=10**6).run(url) == (ExitCode.UNAVAILABLE, "no")
    assert len(calls) <= 2, "one in hand, one behind it"


def test_a_hub_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def load(spec: Any) -> str:
        tries.append(spec)
        if len(tries) < 4:
            raise ModelAway("the hub")
        return "loaded"

    monkeypatch.setattr("embed_worker.__main__.load_model", load)
    assert Worker(patience_seconds=60)._patience.until_there(lambda: load(1)) == "loaded"
    tries.clear()
    assert Worker(patience_seconds=60).model(make_spec()) == "loaded"  # type: ignore[comparison-overlap]
    tries.clear()
    with pytest.raises(ModelAway):
        NONE.until_there(lambda: load(1))


def test_a_disk_that_is_full_of_weights_is_the_machines_fault(
    tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "model"
    source.mkdir()
    (source / "config.json").write_text("{}")
    (source / "model.safetensors").write_bytes(bytes(64 << 20))
    monkeypatch.setenv(weights.CACHE, str(small_disk / "models"))
    with pytest.raises(weights.BadMachine, match=r"no space left for the model.*EMBED_SKY_DISK_SIZE"):
        weights.fetch_folder(f"file://{source}", weights.FILES)


def test_an_object_of_the_first_try_is_found_again(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to a put got lost: what is there is this attempt's own record."""
    job = make_job(lake, TEXTS)
    url = write_job(job)
    real, lost = Store.create, []

    def create(self: Store, path: str, data: bytes) -> bool:
        first = real(self, path, data)
        if "/rows-" in path and path not in lost:
            lost.append(path)
            raise StoreAway("the answer got lost")
        return first

    monkeypatch.setattr(Store, "create", create)
    assert Worker(patience_seconds=60).run(url) == (ExitCode.DONE, None)
    assert len(lost) == Checkpoints(Store(lake), job).count


def test_a_patient_store_is_a_store(lake: str) -> None:
    store = PatientStore(lake, Patience(1.0))
    assert store.create("a/b", b"x") and not store.create("a/b", b"y")
    assert store.read("a/b") == b"x" and store.read_range("a/b", 0, 9) == b"x" and store.list("a") == ["b"]
    store.delete("a")
    assert not store.exists("a/b")
