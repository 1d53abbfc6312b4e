"""The commit protocol against a model: attempts that take turns at every call of the store, and die at any."""

import os
import shutil
import tempfile
import threading
import uuid
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from embed_worker import files
from embed_worker.checkpoints import CheckpointRecord, Checkpoints
from embed_worker.commit import commit_shard
from embed_worker.errors import DamagedData
from embed_worker.job import EmbedJob
from embed_worker.manifests import ShardManifest, read_manifest
from embed_worker.parts import Parts
from embed_worker.seal import unsealed
from embed_worker.store import Store
from embed_worker.table import shard_schema
from embed_worker.units import checkpoint_tables, make_unit

from .kit import leftovers, loaded, make_job, make_texts, prove

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
TEXTS = [*make_texts(10), None]
ALIVE = 5
LIMIT = 60.0
"""Seconds of real time that a step may take: for a broken test."""
picked = st.integers(0, ALIVE - 1)


def profile(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=60 if LONG else 30,
        derandomize=not LONG,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


class Killed(BaseException):
    """The attempt's machine is gone."""


class GatedStore(Store):
    """Each call waits for leave; a killed attempt dies just before a call, or just after."""

    gate: "Attempt"

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in ("exists", "read", "open", "list", "create", "create_file", "delete"):
            return found
        gate = self.gate

        def gated(*arguments: Any) -> Any:
            if gate.inside:  # create_json calls create
                return found(*arguments)
            gate.wait(name)
            gate.inside = True
            try:
                return found(*arguments)
            finally:
                gate.inside = False
                if gate.kill == "after":
                    raise Killed

        return gated


@cache
def made(lake_key: str) -> tuple[tuple[CheckpointRecord, pa.Table | None], ...]:
    """What the engine gives for each checkpoint: the same for every attempt."""
    folder = Path(tempfile.mkdtemp())
    try:
        job = make_job(str(folder), TEXTS)
        model = loaded(job.spec)
        source = [Path(Store(job.lake).path(f"{job.input.path}/{file.path}")) for file in job.input.files]
        result = []
        for index, rows in enumerate(checkpoint_tables(source, job.checkpoint_rows)):
            unit = make_unit(index, rows, model.tokenizer, job.spec.prompts.document)
            unit.begin(model.engine.dimension, job.spec.output_dtype)
            feed = [((index, n), ids) for n, ids in enumerate(unit.sequences)]
            for (_, sequence), vector in _embedded(model.engine, feed):
                unit.put(sequence, vector)
            kept = unit.kept()
            table = unit.table(shard_schema(job, model.engine.dimension))
            record = CheckpointRecord(
                index=index, rows=unit.rows, input_digest=job.input.digest, spec_id=job.spec.spec_id, attempt="",
                data=None, dimension=model.engine.dimension if table is not None else None, chunks=len(kept),
                tokens=int(unit.n_tokens[kept].sum()), duplicate_chunks=len(unit.row_ids) - len(unit.sequences),
                rejects=unit.all_rejects(), engine_seconds=0.0,
            )  # fmt: skip
            result.append((record, table))
        return tuple(result)
    finally:
        shutil.rmtree(folder)


def _embedded(engine: Any, feed: list[Any]) -> Any:
    class Source:
        exhausted = False

        def take(self, block: bool) -> Any:
            return feed.pop(0) if feed else None

    return engine.embed(Source())


class Attempt:
    """One attempt in a thread that moves only while the test waits for it: from one call of the store to the next."""

    def __init__(self, job: EmbedJob) -> None:
        self.job, self.name = job, uuid.uuid4().hex[:8]
        self.kill, self.inside, self.over = "", False, False
        self.at = "start"
        self.end: BaseException | None = None
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self.store = GatedStore(job.lake)
        self.store.gate = self
        threading.Thread(target=self._main, daemon=True).start()

    def step(self) -> None:
        self._go.release()
        assert self._back.acquire(timeout=LIMIT), "an attempt hangs"

    def wait(self, at: str) -> None:
        self.at = at
        self._back.release()
        self._go.acquire()
        if self.kill == "before":
            raise Killed

    def _main(self) -> None:
        self._go.acquire()
        try:
            self._run()
        except BaseException as error:
            self.end = error
        self.over = True
        self._back.release()

    def _run(self) -> None:
        """As embed_worker.runner does it, without engine and threads."""
        store, job = self.store, self.job
        checkpoints = Checkpoints(store, job)
        if manifest := read_manifest(store, job.manifest_path, ShardManifest):
            return checkpoints.sweep(manifest)
        checkpoints.register(self.name, {"started_at": self.name})
        with tempfile.TemporaryDirectory(dir=SHM) as folder:
            scratch = Path(folder)
            known = {index for index in checkpoints.committed() if checkpoints.record(index)}
            parts = Parts(store, job, checkpoints, scratch)
            for record, table in made(""):
                if record.index in known or checkpoints.is_committed(record.index):
                    continue
                if store.exists(job.manifest_path):
                    raise DamagedData("swept")
                checkpoints.commit(record.model_copy(update={"attempt": self.name}), table, scratch)
                known.add(record.index)
                parts.advance(known)
            about: dict[str, Any] = {"canaries": None, "engine": {"attempt": self.name}, "hardware": {}, "seconds": {}}
            commit_shard(store, job, checkpoints, parts, scratch, **about)
        manifest = read_manifest(store, job.manifest_path, ShardManifest)
        assert manifest is not None
        return checkpoints.sweep(manifest)


SHM = "/dev/shm" if Path("/dev/shm").is_dir() else None


class CommitMachine(RuleBasedStateMachine):
    root: ClassVar[str]

    @initialize()
    def begin(self) -> None:
        self.job = make_job(f"{self.root}/{uuid.uuid4().hex}", TEXTS)
        self.store = Store(self.job.lake)
        self.alive: list[Attempt] = []
        self.manifest: bytes | None = None
        self.records: dict[str, bytes] = {}

    @precondition(lambda self: len(self.alive) < ALIVE)
    @rule()
    def start(self) -> None:
        self.alive.append(Attempt(self.job))

    @precondition(lambda self: bool(self.alive))
    @rule(which=picked, steps=st.integers(1, 12))
    def go_on(self, which: int, steps: int) -> None:
        """One attempt takes some turns; the others are zombies meanwhile."""
        attempt = self.alive[which % len(self.alive)]
        for _ in range(steps):
            if not attempt.over:
                attempt.step()
                self.look()
        self.settle(attempt)

    @precondition(lambda self: bool(self.alive))
    @rule(which=picked, when=st.sampled_from(["before", "after"]))
    def kill(self, which: int, when: str) -> None:
        attempt = self.alive[which % len(self.alive)]
        attempt.kill = when
        while not attempt.over:
            attempt.step()
        self.settle(attempt)
        self.look()

    def settle(self, attempt: Attempt) -> None:
        if not attempt.over:
            return
        self.alive.remove(attempt)
        if attempt.end is None or isinstance(attempt.end, Killed):
            return
        if isinstance(attempt.end, DamagedData) and self.manifest is not None:
            return  # its checkpoints were swept under it: the runner takes this for what it is
        raise attempt.end

    def look(self) -> None:
        """What a reader sees after every single call: nothing, or the whole shard, unchanged for ever."""
        path = self.job.manifest_path
        manifest = self.store.read(path) if self.store.exists(path) else None
        if self.manifest is not None:
            assert manifest == self.manifest, "a committed manifest has changed"
        elif manifest is not None:
            self.manifest = manifest
        if manifest is None:
            folder = Checkpoints(self.store, self.job).folder
            for name in self.store.list(folder):
                if name.endswith(".json"):
                    found = self.store.read(f"{folder}/{name}")
                    assert self.records.setdefault(name, found) == found, f"committed checkpoint {name} has changed"
            assert set(self.records) <= set(self.store.list(folder)), "a committed checkpoint is gone"
            return
        shard = ShardManifest.model_validate(unsealed(path, manifest))
        for file in [*shard.files, *([shard.rejects] if shard.rejects else [])]:
            fault = files.fault_of(self.store, self.job.output, file)
            assert fault is None, f"readers see a damaged shard: {fault}"

    @invariant()
    def rows_add_up(self) -> None:
        if getattr(self, "manifest", None):
            shard = ShardManifest.model_validate(unsealed(self.job.manifest_path, self.manifest))
            assert shard.rows_embedded + shard.rows_rejected == len(TEXTS)

    def teardown(self) -> None:
        if not hasattr(self, "job"):
            return
        zombies, self.alive = self.alive, []
        self.finish(Attempt(self.job))
        for zombie in zombies:  # they wake when all is over
            self.finish(zombie)
        self.finish(Attempt(self.job))
        folder = Path(tempfile.mkdtemp(dir=SHM))
        try:
            prove(self.job, TEXTS, folder, {103: "null text"})
        finally:
            shutil.rmtree(folder)
        assert leftovers(self.job) == []
        self.store.delete("embedding_shards")

    def finish(self, attempt: Attempt) -> None:
        self.alive.append(attempt)
        while not attempt.over:
            attempt.step()
        self.look()
        self.settle(attempt)


def check(root: str, examples: int) -> None:
    machine = type("Machine", (CommitMachine,), {"root": root})
    run_state_machine_as_test(machine, settings=profile(examples))  # type: ignore[no-untyped-call]


def test_any_interleaving_commits_once_on_a_disk() -> None:
    folder = tempfile.mkdtemp(dir=SHM)
    try:
        check(folder, 800 if LONG else 8)
    finally:
        shutil.rmtree(folder)


@pytest.mark.e2e
def test_any_interleaving_commits_once_on_s3(s3_root: str) -> None:
    check(s3_root, 60 if LONG else 2)


@pytest.mark.e2e
def test_any_interleaving_commits_once_on_seaweed(seaweed_root: str) -> None:
    check(seaweed_root, 60 if LONG else 3)
