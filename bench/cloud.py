"""A simulated fleet in a process of its own: virtual slots, preemptions, failures, and real shards in the lake.

What a job does in the lake is the worker's own code (with the hash engine instead of vLLM); only its waiting is
simulated. `python -m bench.cloud SOCKET WEATHER.json` serves until its parent is gone.
"""

import argparse
import contextlib
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

from embed_worker.attempt.runner import run_job
from embed_worker.engine.loading import LoadedModel, load_model
from embed_worker.lake.job import load_job

TICK = 0.05
FINAL = {"succeeded", "failed", "refused", "cancelled"}


@dataclass(frozen=True)
class Weather:
    """What happens to jobs. Everything random comes from the seed and the job's name."""

    slots: int = 400
    poll_seconds: float = 5.0
    queue_seconds: tuple[float, float] = (1.0, 8.0)
    run_seconds: tuple[float, float] = (60.0, 300.0)
    preempted: float = 0.1
    """Share of jobs that lose their machine once."""
    recover_seconds: float = 10.0
    failing_once: float = 0.03
    """Share of partitions whose first job ends without a shard."""
    refused: tuple[str, ...] = ()
    """Partitions that no attempt can make."""
    commit_threads: int = 2
    seed: int = 1


@dataclass
class Job:
    id: str
    name: str
    url: str
    timeline: list[tuple[float, str]]
    """(when, state); the last but one entry before a commit or an end."""
    end: str
    state: str = "queued"
    detail: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    ending: bool = False


class Cloud:
    """The jobs and their clock. All methods are safe to call from several threads."""

    def __init__(self, weather: Weather) -> None:
        self.weather = weather
        self.calls: Counter[str] = Counter()
        self.polls: list[float] = []
        self.launched: Counter[str] = Counter()
        self._jobs: dict[str, Job] = {}
        self._live: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._model: LoadedModel | None = None
        self._model_lock = threading.Lock()
        self._pool = ThreadPoolExecutor(weather.commit_threads)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cloud", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    # -- what a backend asks ---------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        return {"slots": self.weather.slots, "poll_seconds": self.weather.poll_seconds}

    def submit(self, name: str, partition: str, url: str) -> str:
        with self._lock:
            self.calls["submit"] += 1
            if live := self._live.get(name):
                return live.id
            self.launched[partition] += 1
            job = self._plan(name, partition, url, attempt=self.launched[partition])
            self._jobs[job.id] = self._live[name] = job
            return job.id

    def find(self, names: list[str]) -> dict[str, str]:
        with self._lock:
            self.calls["find"] += 1
            return {name: self._live[name].id for name in names if name in self._live}

    def poll(self, ids: list[str]) -> dict[str, tuple[str, str, dict[str, Any]]]:
        with self._lock:
            self.calls["poll"] += 1
            self.polls.append(time.time())
            return {id_: (job.state, job.detail, job.facts) for id_ in ids if (job := self._jobs.get(id_))}

    def cancel(self, ids: list[str]) -> None:
        with self._lock:
            self.calls["cancel"] += 1
            for job in (self._jobs[id_] for id_ in ids):
                if job.state not in FINAL and not job.ending:
                    self._settle(job, "cancelled", "cancelled")

    def logs(self, id_: str, lines: int) -> str:
        with self._lock:
            self.calls["logs"] += 1
            job = self._jobs[id_]
            return "\n".join(
                [f"job {id_} ({job.name})", *(f"{state}" for _, state in job.timeline), job.detail][-lines:]
            )

    def stats(self) -> dict[str, Any]:
        with self._lock:
            return {
                "calls": dict(self.calls),
                "polls": list(self.polls),
                "launched": dict(self.launched),
                "recoveries": sum(job.facts.get("recoveries", 0) for job in self._jobs.values()),
                "live": len(self._live),
            }

    # -- what happens ----------------------------------------------------------------------------

    def _plan(self, name: str, partition: str, url: str, attempt: int) -> Job:
        weather = self.weather
        dice = random.Random(f"{weather.seed}/{name}/{attempt}")
        id_ = str(len(self._jobs) + 1)
        at = time.time() + dice.uniform(*weather.queue_seconds) / 2
        timeline = [(at, "starting")]
        at += dice.uniform(*weather.queue_seconds) / 2
        timeline.append((at, "running"))
        length = dice.uniform(*weather.run_seconds)
        preempted = dice.random() < weather.preempted
        fails = attempt == 1 and dice.random() < weather.failing_once
        if preempted:
            at += length * dice.random()
            timeline += [(at, "recovering"), (at + weather.recover_seconds, "running")]
            at += weather.recover_seconds
        at += length / (2 if fails else 1)
        end = "refused" if partition in weather.refused else "failed" if fails else "commit"
        timeline.append((at, end))
        facts = {
            "id": id_, "region": dice.choice(["us-east-1", "eu-west-4", "ap-south-1"]), "infra": "simulated",
            "accelerators": "L4:1", "spot": True, "recoveries": 0, "dollars_per_hour": 0.2345, "cost_dollars": 0.1234,
            "dashboard": f"http://127.0.0.1:46580/dashboard/jobs/{id_}", "seconds_queued": 3.0, "seconds_launch": 60.0,
        }  # fmt: skip
        return Job(id_, name, url, timeline, end, facts=facts)

    def _run(self) -> None:
        while not self._stop.wait(TICK):
            now = time.time()
            with self._lock:
                due = [job for job in self._live.values() if not job.ending]
                for job in due:
                    while job.timeline and job.timeline[0][0] <= now:
                        self._step(job, job.timeline.pop(0)[1])

    def _step(self, job: Job, state: str) -> None:
        if state == "commit":
            job.ending = True
            self._pool.submit(self._commit, job)
        elif state in FINAL:
            self._settle(job, state, "CUDA error: device lost" if state == "failed" else "exit code 2: no such model")
        else:
            if state == "recovering":
                job.facts = {**job.facts, "recoveries": job.facts["recoveries"] + 1}
            job.state = state

    def _settle(self, job: Job, state: str, detail: str) -> None:
        job.state, job.detail = state, detail
        self._live.pop(job.name, None)

    def _commit(self, job: Job) -> None:
        state, detail = "succeeded", ""
        try:
            spec = load_job(job.url)
            with self._model_lock:
                self._model = self._model or load_model(spec.spec)
            model = self._model
            run_job(spec, lambda: model, threading.Event())
        except Exception as error:  # shows in the run's failure
            state, detail = "failed", f"{type(error).__name__}: {error}"
        with self._lock:
            self._settle(job, state, detail)


METHODS = {"settings", "submit", "find", "poll", "cancel", "logs", "stats"}


@contextlib.contextmanager
def serving(cloud: Cloud, address: str) -> Iterator[None]:
    """Answers calls on a Unix socket for as long as the body runs."""
    listener = Listener(address, family="AF_UNIX", backlog=64)

    def accept() -> None:
        while True:
            try:
                connection = listener.accept()
            except OSError:
                return
            threading.Thread(target=_answer, args=(cloud, connection), daemon=True).start()

    threading.Thread(target=accept, name="listener", daemon=True).start()
    try:
        yield
    finally:
        listener.close()
        cloud.close()


def _answer(cloud: Cloud, connection: Connection) -> None:
    with contextlib.suppress(EOFError, OSError), connection:
        while True:
            method, arguments = connection.recv()
            assert method in METHODS
            connection.send(getattr(cloud, method)(*arguments))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("socket")
    parser.add_argument("weather", type=Path)
    arguments = parser.parse_args()
    cloud = Cloud(Weather(**json.loads(arguments.weather.read_text())))
    parent = os.getppid()
    with serving(cloud, arguments.socket):
        while os.getppid() == parent:
            time.sleep(0.5)


if __name__ == "__main__":
    main()
