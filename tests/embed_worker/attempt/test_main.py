"""`python -m embed_worker`: exit codes, the --serve protocol, signals."""

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from embed_worker.__main__ import Worker, answer_to
from embed_worker.exits import ExitCode
from embed_worker.lake.figures import figures_of
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.store import Store
from tests.kits.attempt.jobs import leftovers, loaded, make_job, make_spec, make_texts, manifest_of, prove, write_job

pytestmark = pytest.mark.slow

TEXTS = make_texts(9)

NOISY = """
import os, sys, time
from embed_worker.engine import loading as models
from embed_worker.engine.hash import HashEngine

class Noisy(HashEngine):
    def embed(self, source):
        for number, (key, vector) in enumerate(super().embed(source)):
            print("a library prints", number)
            os.write(1, b"and writes to the descriptor\\n")
            time.sleep(float(os.environ.get("SLEEP", "0")))
            if number == int(os.environ.get("BREAK", "-1")) and key[0]:
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            if number == int(os.environ.get("TELL", "-1")) and key[0]:
                print("TELLING", file=sys.stderr, flush=True)
            yield key, vector

models.HashEngine = Noisy
import runpy
sys.argv[0] = "embed_worker"
runpy.run_module("embed_worker", run_name="__main__")
"""


def worker(*arguments: str, **environment: str) -> "subprocess.Popen[bytes]":
    import os

    return subprocess.Popen(
        [sys.executable, "-c", NOISY, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
    )


def answers(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """What a serving worker says, without its signs of life."""
    return (said for line in lines if "sign" not in (said := orjson.loads(line)))


# -- in this process ------------------------------------------------------------------------------------------


def test_exit_codes_of_jobs(lake: str, tmp_path: Path) -> None:
    job = make_job(lake, TEXTS)
    assert Worker().run(write_job(job)) == (ExitCode.DONE, None)
    prove(job, TEXTS, tmp_path)
    code, error = Worker().run(str(tmp_path / "none.json"))
    assert code == ExitCode.BAD_JOB and error is not None and "none.json" in error
    below_a_file = job.model_copy(update={"lake": f"{lake}/{job.shard.manifest_path}/x"})
    code, error = Worker().run(write_to(tmp_path / "j.json", below_a_file))
    assert code == ExitCode.UNAVAILABLE and error is not None and "EMBED_LAKE" in error
    assert {code.name: int(code) for code in ExitCode} == {
        "DONE": 0, "BAD_JOB": 65, "UNAVAILABLE": 69, "MACHINE": 70, "AGAIN": 74, "PREEMPTED": 75
    }  # fmt: skip


def write_to(path: Path, job: EmbedJob) -> str:
    path.write_bytes(orjson.dumps(job.model_dump(mode="json")))
    return str(path)


class Panic(BaseException):
    """As pyo3's PanicException, which a Rust library raises."""


@pytest.mark.parametrize("kind", [ZeroDivisionError, Panic])
def test_an_unforeseen_error_is_the_machines_until_the_engine_has_proved_itself(
    lake: str, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise kind("unforeseen")

    url = write_job(make_job(lake, TEXTS))
    monkeypatch.setattr("embed_worker.__main__.run_job", fail)
    process = Worker()
    assert process.run(url) == (ExitCode.MACHINE, f"{kind.__name__}: unforeseen")
    process.model(make_spec())
    assert process.run(url) == (ExitCode.AGAIN, f"{kind.__name__}: unforeseen")
    process.stop.set()
    assert process.run(url) == (ExitCode.PREEMPTED, f"{kind.__name__}: unforeseen")


def test_the_engine_is_loaded_once(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    monkeypatch.setattr("embed_worker.__main__.load_model", lambda spec: loads.append(spec) or loaded(spec))
    process = Worker()
    for name in ("a", "b"):
        assert process.run(write_job(make_job(f"{lake}-{name}", TEXTS)))[0] == ExitCode.DONE
    assert "vectors" in process.query({"spec": make_spec().model_dump(), "texts": ["x"]})
    other_prompt = make_spec(prompts={"query": "q: "}).model_dump()
    assert "vectors" in process.query({"spec": other_prompt, "texts": ["x"]}), "a query prompt needs no other engine"
    assert len(loads) == 1
    code, error = process.run(write_job(make_job(f"{lake}-c", TEXTS, pooling="cls")))
    assert code == ExitCode.AGAIN and error is not None and "another model" in error


def test_queries_use_the_query_prompt_and_tell_what_is_wrong() -> None:
    process = Worker()
    spec = make_spec(prompts={"query": "q: ", "document": "d: "})
    answer = process.query({"spec": spec.model_dump(mode="json"), "texts": ["one", "two"]})
    assert answer["vectors"] == loaded(spec).embed_texts(["one", "two"], "q: ").tolist()
    assert "texts" in process.query({"spec": spec.model_dump()})["error"]
    assert "pooling" in process.query({"spec": {"model": "x"}, "texts": ["a"]})["error"]


def test_a_query_without_tokens_is_one_sentence_and_loads_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embed_worker.__main__.load_model", None)
    answer = Worker().query({"spec": make_spec(prompts={"query": "q: "}).model_dump(), "texts": ["x", ""]})
    assert answer == {"error": "'' has no tokens for this model; write a text with words"}


@pytest.mark.parametrize("line", [b"no json\n", b"[1]\n", b"{}\n", b'{"job": 3}\n', b'{"query": null}\n'])
def test_what_is_no_request_gets_an_error(line: bytes) -> None:
    assert "request" in answer_to(Worker(), line)["error"]


# -- as a process ----------------------------------------------------------------------------------------------


def test_job_files_as_arguments(lake: str, tmp_path: Path) -> None:
    good, other = make_job(f"{lake}-a", TEXTS), make_job(f"{lake}-b", TEXTS)
    process = worker(write_job(good), str(tmp_path / "none.json"), write_job(other))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 65, err.decode()
    assert out == b"", "stdout is for answers alone"
    for number, job in enumerate((good, other)):  # the bad job did not keep the next from being done
        (tmp_path / str(number)).mkdir()
        prove(job, TEXTS, tmp_path / str(number))
    assert b"a library prints" in err


def test_several_engines_share_a_partition(lake: str, tmp_path: Path) -> None:
    texts = make_texts(60)
    jobs = [make_job(f"{lake}-{name}", texts) for name in "ab"]
    process = worker(*map(write_job, jobs), EMBED_ENGINES="3")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err.decode()
    for number, job in enumerate(jobs):
        (tmp_path / str(number)).mkdir()
        prove(job, texts, tmp_path / str(number))
        manifest = manifest_of(job)
        assert {attempt.lane for attempt in manifest.attempts} == {"1 of 3", "2 of 3", "3 of 3"}
        assert figures_of(manifest).starts == 1
        assert (manifest.hardware.engines, manifest.hardware.cores) == (3, len(os.sched_getaffinity(0)))
        assert leftovers(job) == []


def test_wrong_arguments_are_neither_done_nor_a_bad_job() -> None:
    process = worker("--serve", "job.json")
    assert b"usage" in process.communicate(timeout=60)[1]
    assert process.returncode == 2


def test_serve(lake: str, tmp_path: Path) -> None:
    job = make_job(lake, TEXTS)
    url = write_job(job)
    spec = job.spec.model_dump(mode="json")
    process = worker("--serve")
    assert process.stdin is not None and process.stdout is not None

    def ask(line: bytes) -> dict[str, Any]:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(line + b"\n")
        process.stdin.flush()
        for line in process.stdout:
            said: dict[str, Any] = orjson.loads(line)
            if "sign" not in said:
                return said
            signs.append(said["sign"])
        raise AssertionError("it ended")

    signs: list[str] = []
    assert ask(orjson.dumps({"job": url})) == {"job": url, "code": 0, "error": None}
    assert signs == ["ready", "begun", "loading", "loading", "loaded"], "tokenizer, then model"
    assert ask(orjson.dumps({"job": url})) == {"job": url, "code": 0, "error": None}
    assert signs[5:] == ["begun"], "it is committed already"
    bad = ask(orjson.dumps({"job": str(tmp_path / "none.json")}))
    assert bad["code"] == 65 and "none.json" in bad["error"]
    assert "error" in ask(b"this is no request")
    answer = ask(orjson.dumps({"query": {"spec": spec, "texts": ["Größe 東京"]}}))
    assert answer["vectors"] == loaded(job.spec).embed_texts(["Größe 東京"], "").tolist()
    out, err = process.communicate(timeout=60)  # closes stdin
    assert process.returncode == 0, err.decode()
    assert out == b"" and b"a library prints" in err and b"and writes to the descriptor" in err
    prove(job, TEXTS, tmp_path)


def test_a_worker_that_fails_in_mid_job_is_started_once_more_in_its_place(lake: str, tmp_path: Path) -> None:
    texts = make_texts(40)
    job = make_job(lake, texts, checkpoint_rows=2)
    breaks = NOISY.replace("if number ==", 'if "EMBED_STARTED_AGAIN" not in os.environ and number ==')
    process = subprocess.run(
        [sys.executable, "-c", breaks, write_job(job)],
        env={**os.environ, "BREAK": "12"}, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr.decode()
    assert b"illegal memory access" in process.stderr and b"starting once more on this machine" in process.stderr
    prove(job, texts, tmp_path)
    assert len({attempt.pid for attempt in manifest_of(job).attempts}) == 1, "the same process, afresh"


def test_a_worker_is_not_started_a_third_time(lake: str) -> None:
    job = make_job(lake, make_texts(40), checkpoint_rows=2)
    process = worker(write_job(job), BREAK="12")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 74, err.decode()
    assert err.count(b"starting once more") == 1


def _in_the_middle(process: "subprocess.Popen[bytes]") -> None:
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if line == b"TELLING\n":
            return
    raise AssertionError(b"".join(seen).decode())


def test_sigterm_in_mid_job_is_75_and_resumable(lake: str, tmp_path: Path) -> None:
    texts = make_texts(300)
    job = make_job(lake, texts, checkpoint_rows=2)
    process = worker(write_job(job), "never-reached.json", SLEEP="0.005", TELL="12")
    _in_the_middle(process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert b"told to stop" in err and b"never-reached" not in err and b"Traceback" not in err
    store = Store(lake)
    assert not store.exists(job.shard.manifest_path)
    assert [n for n in store.list(f"{job.shard.folder}/checkpoints/rows-0000002") if n.endswith(".json")]
    assert store.list(".tmp") == [], "a polite end leaves no scratch"
    assert Worker().run(write_job(job)) == (ExitCode.DONE, None)
    prove(job, texts, tmp_path)


def test_serve_stops_its_job_when_stdin_closes_and_nobody_waits(lake: str) -> None:
    job = make_job(lake, make_texts(400), checkpoint_rows=2)
    process = worker("--serve", SLEEP="0.005", TELL="12")
    assert process.stdin is not None
    process.stdin.write(orjson.dumps({"job": write_job(job)}) + b"\n")
    process.stdin.flush()
    _in_the_middle(process)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    (answer,) = answers(out.splitlines())
    assert answer["code"] == 75
    assert not Store(lake).exists(job.shard.manifest_path)


def test_serve_leaves_after_an_error_that_may_have_broken_the_engine(lake: str, tmp_path: Path) -> None:
    job = make_job(lake, make_texts(40), checkpoint_rows=2)
    process = worker("--serve", BREAK="12")
    assert process.stdin is not None and process.stdout is not None
    url = write_job(job)
    process.stdin.write(orjson.dumps({"job": str(tmp_path / "none.json")}) + b"\n")
    process.stdin.write(orjson.dumps({"job": url}) + b"\n")
    process.stdin.write(orjson.dumps({"job": url}) + b"\n")
    process.stdin.flush()
    bad, broken = itertools.islice(answers(process.stdout), 2)
    assert bad["code"] == 65 and "leaving" not in bad, "a bad job breaks nothing"
    error = "RuntimeError: CUDA error: an illegal memory access was encountered"
    assert broken == {"job": url, "code": 74, "error": error, "leaving": True}
    assert process.wait(timeout=60) == 74
    assert process.communicate()[0] == b"", "the next job is not begun"


def test_sigterm_while_serve_is_idle(lake: str) -> None:
    process = worker("--serve")
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"{}\n")
    process.stdin.flush()
    assert "error" in next(answers(process.stdout))
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 75
    process.communicate()
