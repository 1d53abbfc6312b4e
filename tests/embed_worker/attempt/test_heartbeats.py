"""What an attempt tells of itself while it works and at its end."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embed_worker.attempt.place import place
from embed_worker.engine.hash import HashEngine
from embed_worker.errors import BadJob, Preempted
from embed_worker.lake.errors import DamagedData, StoreUnavailable
from embed_worker.lake.layout import heartbeat_file
from embed_worker.lake.store import Store
from tests.kits.attempt.jobs import CountingEngine, heartbeats, make_job, manifest_of, prove, run
from tests.kits.attempt.stopped import TEXTS, StopAfter


def test_the_last_heartbeat_tells_the_end(lake: str) -> None:
    job = make_job(lake, [*TEXTS, " "])
    run(job)
    [beat] = heartbeats(job)
    manifest = manifest_of(job)
    assert beat["phase"] == "committed"
    assert (beat["rows"], beat["rows_done"], beat["tokens_done"]) == (23, 23, manifest.tokens)
    assert beat["shard"] == job.shard.model_dump()
    assert beat["engine"]["engine"] == "hash" and beat["seconds"] >= 0 and "T" in beat["at"]
    assert Store(lake).exists(heartbeat_file(job.shard.key, beat["attempt"]))
    assert beat["attempt"] == manifest.attempts[0].attempt
    assert (beat["rows_own"], beat["tokens_own"]) == (23, manifest.tokens)
    assert 0 <= beat["phase_seconds"] <= beat["seconds"] and "price_per_hour" not in beat and "ending" not in beat


def test_heartbeats_come_while_it_works(lake: str) -> None:
    job = make_job(lake, TEXTS, heartbeat_seconds=0.01)
    seen: set[str] = set()

    class Watched(CountingEngine):
        def hook(self, ids: tuple[int, ...], vector: np.ndarray) -> np.ndarray:
            if self.seen[-1] != self.seen[0]:
                gate = threading.Event()
                for _ in range(500):
                    seen.update(beat["phase"] for beat in heartbeats(job))
                    if "embedding" in seen:
                        break
                    gate.wait(0.01)
            return vector

    run(job, Watched(job.spec))
    assert "embedding" in seen


def test_a_stopped_attempt_says_so_and_a_resumed_one_counts_all_rows(lake: str) -> None:
    job = make_job(lake, TEXTS)
    stop = threading.Event()
    with pytest.raises(Preempted):
        run(job, StopAfter(job, stop, 18), stop)
    [first] = heartbeats(job)
    assert first["phase"] == "stopped" and 0 < first["rows_done"] < 22
    run(job)
    second = next(b for b in heartbeats(job) if b["attempt"] != first["attempt"])
    assert (second["rows_done"], second["tokens_done"]) == (22, manifest_of(job).tokens)
    assert first["ending"] == "preempted" and first["rows_own"] + second["rows_own"] == 22


@pytest.mark.parametrize(
    ("error", "ending", "said"),
    [
        (BadJob("the spec is wrong"), "bad_job", "the spec is wrong"),
        (DamagedData("a file is gone"), "failed", "a file is gone"),
        (StoreUnavailable("key AKIA1234 is unknown"), "failed", "StoreUnavailable"),
        (RuntimeError("a text of somebody"), "failed", "RuntimeError"),
    ],
)
def test_a_failed_attempt_says_why_but_quotes_only_our_own_words(
    lake: str, error: Exception, ending: str, said: str
) -> None:
    class Failing(HashEngine):
        def embed(self, source: Any) -> Any:
            raise error

    job = make_job(lake, TEXTS)
    with pytest.raises(type(error)):
        run(job, Failing(job.spec))
    [beat] = heartbeats(job)
    assert (beat["phase"], beat["ending"], beat["error"]) == ("stopped", ending, said)


def test_a_heartbeat_tells_the_place_and_a_price_only_where_they_are_known(
    lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert place() == {}
    monkeypatch.setenv("SKYPILOT_CLUSTER_INFO", '{"cloud": "GCP", "region": "us-east4", "zone": null}')
    monkeypatch.setenv("EMBED_SPOT", "1")
    monkeypatch.setenv("EMBED_PRICE_PER_HOUR", "0.28")
    assert place() == {"cloud": "GCP", "region": "us-east4", "spot": True, "price_per_hour": 0.28}
    for price in ("0", "-1", "nan", "inf", "cheap"):
        monkeypatch.setenv("EMBED_PRICE_PER_HOUR", price)
        assert "price_per_hour" not in place()
    monkeypatch.setenv("EMBED_PRICE_PER_HOUR", "0.28")
    job = make_job(lake, TEXTS)
    run(job)
    [beat] = heartbeats(job)
    [attempt] = manifest_of(job).attempts
    assert beat["price_per_hour"] == attempt.price_per_hour == 0.28 and attempt.region == "us-east4"
    monkeypatch.setenv("SKYPILOT_CLUSTER_INFO", "{")
    assert place() == {"spot": True, "price_per_hour": 0.28}


def test_a_lake_that_refuses_heartbeats_does_not_stop_the_work(
    lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("no heartbeats here")

    monkeypatch.setattr(Store, "replace", refuse)
    job = make_job(lake, TEXTS, heartbeat_seconds=0.01)
    assert run(job)
    prove(job, TEXTS, tmp_path)
