"""A GPU that goes bad in mid-job loses no row and leaves no wrong vector; a bad text is no bad GPU."""

import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embed_worker.__main__ import Worker
from embed_worker.attempt import parts, runner
from embed_worker.attempt.checkpoints import Checkpoints
from embed_worker.attempt.lanes import Lane
from embed_worker.attempt.runner import run_job
from embed_worker.engine.base import RequestSource, Result
from embed_worker.engine.hash import HashEngine
from embed_worker.engine.loading import CANARY_TEXTS
from embed_worker.errors import SickEngine, exit_code_of
from embed_worker.exits import ExitCode
from embed_worker.lake.errors import DamagedData
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.store import Store
from tests.kits.attempt.jobs import (
    CountingEngine,
    loaded,
    make_job,
    make_texts,
    numbers,
    prove,
    run,
    run_lane,
    text_of,
    write_job,
)
from tests.kits.processes import wait_until

TEXTS = make_texts(60)


class GoingBad(HashEngine):
    """From its n-th vector on all are spoiled, the canaries' too."""

    def __init__(self, job: EmbedJob, after: int, spoilt: float | str) -> None:
        super().__init__(job.spec)
        self.left, self.spoilt = after, spoilt

    def embed(self, source: RequestSource) -> Generator[Result, None, None]:
        for key, vector in super().embed(source):
            self.left -= 1
            if self.left >= 0:
                yield key, vector
            elif isinstance(self.spoilt, str):
                yield key, self.spoilt
            else:
                yield key, np.append(np.full(self.dimension - 1, 0, np.float32), np.float32(self.spoilt))


@pytest.mark.parametrize("spoilt", [np.nan, np.inf, "engine: CUDA error"])
@pytest.mark.parametrize("after", [0, 30, 65])
def test_a_gpu_that_gives_no_vectors_any_more_loses_no_row(
    lake: str, tmp_path: Path, spoilt: float | str, after: int
) -> None:
    job = make_job(lake, TEXTS)
    with pytest.raises(SickEngine, match=r"GPU|plain text") as caught:
        run(job, GoingBad(job, after, spoilt))
    assert exit_code_of(caught.value) is ExitCode.MACHINE
    checkpoints = Checkpoints(Store(lake), job)
    assert all(not checkpoints.record(index).rejects for index in checkpoints.committed())
    assert (len(checkpoints.committed()) > 0) == (after > 0), "what was made before is kept"
    assert run(job)
    prove(job, TEXTS, tmp_path)


def test_a_gpu_that_gives_wrong_vectors_is_found_before_the_commit(
    lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", 1)  # wrong parts are there already when it is found
    job = make_job(lake, TEXTS)
    with pytest.raises(SickEngine, match=r"cosine .*0\.999 is wanted"):
        run(job, GoingBad(job, 30, 1.0))
    store = Store(lake)
    assert not Checkpoints(store, job).committed(), "nobody knows since when"
    assert not store.exists(job.shard.manifest_path) and store.exists(f"{job.shard.folder}/part-00003.parquet")
    assert run(job)
    prove(job, TEXTS, tmp_path)


def test_checkpoints_of_earlier_attempts_are_kept(lake: str, tmp_path: Path) -> None:
    job = make_job(lake, TEXTS)
    with pytest.raises(SickEngine):
        run(job, GoingBad(job, 30, np.nan))
    before = Checkpoints(Store(lake), job).committed()
    with pytest.raises(SickEngine):
        run(job, GoingBad(job, 10, 1.0))
    assert Checkpoints(Store(lake), job).committed() == before != set()
    run(job)
    prove(job, TEXTS, tmp_path)


class Refusing(CountingEngine):
    """A sound engine, and texts that it gives no vector."""

    def hook(self, ids: tuple[int, ...], vector: np.ndarray) -> np.ndarray | str:
        text = text_of(ids)
        return vector * np.nan if text.startswith("nan") else "engine: no" if text.startswith("no") else vector


def test_texts_without_a_vector_are_rejects_where_the_canaries_are_right(lake: str, tmp_path: Path) -> None:
    """A whole checkpoint of them, the first and the last of the job too, and the same ones again."""
    texts: list[str] = [*[f"nan {i}" for i in range(9)], *TEXTS[:20], "no", *[f"nan {i}" for i in range(6)]]
    job = make_job(lake, texts)
    engine = Refusing(job.spec)
    assert run(job, engine)
    rows = numbers(texts)
    reasons = {
        row: "engine: no" if text == "no" else "non-finite vector"
        for row, text in zip(rows, texts, strict=True)
        if text and text.startswith("n")
    }
    prove(job, texts, tmp_path, reasons)
    asked = [text_of(ids) for ids in engine.seen].count(text_of(engine_sequence(job)))
    assert asked == 5, "once for each checkpoint that has any"


def engine_sequence(job: EmbedJob) -> tuple[int, ...]:
    """The first canary as the engine gets it."""
    [windows] = loaded(job.spec).tokenizer.windows(CANARY_TEXTS[:1], "")
    return windows[0].ids


def test_the_first_lane_makes_anew_what_a_bad_gpu_made(lake: str, tmp_path: Path) -> None:
    job = make_job(lake, TEXTS)
    with pytest.raises(SickEngine):
        run_lane(job, Lane(1, 2), GoingBad(job, 10, 1.0))
    run_lane(job, Lane(0, 2), HashEngine(job.spec))
    prove(job, TEXTS, tmp_path)


def test_a_part_with_a_checkpoint_that_was_taken_back_is_not_committed(
    lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(lake, TEXTS)
    checkpoints, made = Checkpoints(Store(lake), job), list[parts.Parts]()

    class Kept(parts.Parts):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr(runner, "Parts", Kept)
    lanes = tmp_path / "lanes"
    lanes.mkdir()
    for index in (1, 3):
        (lanes / str(index)).symlink_to("1")  # the other lane's claims

    class TakingBack(CountingEngine):
        def hook(self, ids: tuple[int, ...], vector: np.ndarray) -> np.ndarray:
            if len(self.seen) == 1:
                run_job(job, lambda: loaded(job.spec), threading.Event(), lane=Lane(1, 2))  # sound, as it seems
            if text_of(ids) in TEXTS[56]:
                wait_until(lambda: len(made[0].records) > 1, "the writer has taken checkpoint 1")
                checkpoints.retire(1)
                Lane(1, 2, lanes).close()  # until then the first lane waits, and looks for nothing that is left
            return vector

    with pytest.raises(DamagedData, match="checkpoint 1 was taken back"):
        run_lane(job, Lane(0, 2, lanes), TakingBack(job.spec))
    assert run(job)
    prove(job, TEXTS, tmp_path)


def test_a_bad_gpu_is_the_machines_fault(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(lake, TEXTS)
    monkeypatch.setattr("embed_worker.__main__.load_model", lambda spec: loaded(spec, GoingBad(job, 30, np.nan)))
    worker = Worker()
    code, error = worker.run(write_job(job))
    assert worker.leaving, "this process embeds nothing more"
    assert code == ExitCode.MACHINE and error is not None and "has gone bad" in error
