"""Whole jobs with the hash engine: complete, resumed, adopted, refused; on a folder and on S3."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embed_worker.attempt import parts
from embed_worker.attempt.place import place
from embed_worker.attempt.runner import run_job
from embed_worker.engine.hash import HashEngine
from embed_worker.engine.loading import CANARY_TEXTS
from embed_worker.errors import BadJob, Preempted, exit_code_of
from embed_worker.exits import ExitCode
from embed_worker.lake import files
from embed_worker.lake.errors import BadJobFile, DamagedData, StoreUnavailable
from embed_worker.lake.job import EmbedJob, load_job
from embed_worker.lake.layout import heartbeat_file
from embed_worker.lake.spec import digest_of
from embed_worker.lake.store import Store
from embed_worker.lake.table import METADATA_KEY
from tests.kits.attempt.jobs import (
    CountingEngine,
    Text,
    heartbeats,
    input_table,
    leftovers,
    make_job,
    make_spec,
    make_texts,
    manifest_of,
    no_model,
    prove,
    run,
    text_of,
    write_job,
)
from tests.kits.processes import wait_until

TEXTS = make_texts(22)


@pytest.fixture(params=["local", "s3"])
def any_lake(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("lake" if request.param == "local" else "s3_root"))


class StopAfter(CountingEngine):
    """Sets the stop event once it has embedded so many sequences."""

    def __init__(self, job: EmbedJob, stop: threading.Event, after: int) -> None:
        super().__init__(job.spec)
        self.stop, self.after = stop, after

    def hook(self, ids: tuple[int, ...], vector: np.ndarray) -> np.ndarray:
        if len(self.seen) == self.after:
            self.stop.set()
        return vector


# -- complete -------------------------------------------------------------------------------------------


def test_a_complete_run(any_lake: str, tmp_path: Path) -> None:
    job = make_job(any_lake, TEXTS, input_files=3)
    assert run(job) is True
    table = prove(job, TEXTS, tmp_path)
    assert table.num_rows > len(TEXTS), "some text must make several windows"
    manifest = manifest_of(job)
    assert (manifest.checkpoints, manifest.checkpoint_rows, manifest.dimension) == (6, 4, 32)
    assert (manifest.rows_in, manifest.rows_embedded, manifest.rows_rejected) == (22, 22, 0)
    assert manifest.spec == job.spec and manifest.input == job.input
    assert manifest.engine["engine"] == "hash" and (manifest.hardware.cores or 0) >= 1
    [attempt] = manifest.attempts
    assert {"attempt", "started_at", "host", "pid"} == set(attempt.note()) and attempt.begins_a_start
    assert {"read", "load_model", "tokenise", "write", "engine", "total"} <= set(manifest.seconds)
    assert manifest.canaries is not None and manifest.canaries.texts_digest == digest_of(CANARY_TEXTS)
    assert leftovers(job) == []


def test_the_shard_is_the_same_however_it_is_cut(lake: str, tmp_path: Path) -> None:
    tables = []
    for number, rows in enumerate((1, 4, 7, 22, 1000)):
        job = make_job(f"{lake}-{number}", TEXTS, checkpoint_rows=rows)
        assert run(job)
        folder = tmp_path / str(number)
        folder.mkdir()
        tables.append(prove(job, TEXTS, folder))
    assert all(table.equals(tables[0]) for table in tables)


def test_an_empty_partition_is_committed(lake: str, tmp_path: Path) -> None:
    job = make_job(lake, [])
    assert run(job) is True
    manifest = manifest_of(job)
    assert (manifest.rows_in, manifest.windows, manifest.files, manifest.dimension) == (0, 0, [], None)
    assert leftovers(job) == []


def test_an_empty_partition_without_files(lake: str) -> None:
    job = make_job(lake, [])
    job = job.model_copy(update={"input": job.input.model_copy(update={"files": []})})
    assert run(job) and manifest_of(job).rows_in == 0


def test_float16_and_not_normalised(lake: str, tmp_path: Path) -> None:
    job = make_job(lake, TEXTS, output_dtype="float16", normalize=False)
    run(job)
    table = prove(job, TEXTS, tmp_path)
    assert table.schema.field("embedding").type == pa.list_(pa.field("element", pa.float16(), nullable=False), 32)
    assert manifest_of(job).dtype == "float16"


def test_the_document_prompt_is_embedded_and_changes_the_place(lake: str, tmp_path: Path) -> None:
    plain, prompted = make_job(lake, TEXTS), make_job(f"{lake}2", TEXTS, prompts={"document": "doc: "})
    assert plain.shard.folder != prompted.shard.folder
    run(prompted)
    prove(prompted, TEXTS, tmp_path)


def test_truncated_texts_have_one_window(lake: str, tmp_path: Path) -> None:
    job = make_job(lake, TEXTS, long_texts="truncate")
    run(job)
    assert prove(job, TEXTS, tmp_path).num_rows == len(TEXTS)


def test_rejects_are_kept_with_their_reasons(any_lake: str, tmp_path: Path) -> None:
    texts: list[Text] = [None, "", "  \n", *TEXTS[:5], "refused by the engine", None, "makes a nan", "fine"]

    class Faulty(CountingEngine):
        def hook(self, ids: tuple[int, ...], vector: np.ndarray) -> np.ndarray | str:
            if "refused" in text_of(ids):
                return "engine: too long"
            if "nan" in text_of(ids):
                vector[3] = np.nan
            return vector

    job = make_job(any_lake, texts, checkpoint_rows=3)  # the first checkpoint has rejects alone
    assert run(job, Faulty(job.spec))
    rows = input_table(texts).column("row_id").to_pylist()
    reasons = {
        0: "null text",
        1: "blank text",
        2: "blank text",
        8: "engine: too long",
        9: "null text",
        10: "non-finite vector",
    }
    prove(job, texts, tmp_path, {rows[i]: reason for i, reason in reasons.items()})
    manifest = manifest_of(job)
    assert manifest.rejects_by_reason == {
        "null text": 2, "blank text": 2, "engine: too long": 1, "non-finite vector": 1,
    }  # fmt: skip
    assert manifest.rejects is not None and manifest.rejects.rows == 6
    assert (manifest.rows_in, manifest.rows_embedded, manifest.rows_rejected) == (12, 6, 6)
    assert leftovers(job) == []


def test_a_partition_of_rejects_alone(lake: str, tmp_path: Path) -> None:
    texts: list[Text] = [None, "", None, " ", None]
    job = make_job(lake, texts, checkpoint_rows=2)
    assert run(job)
    rows = input_table(texts).column("row_id").to_pylist()
    reasons = ["null text", "blank text", "null text", "blank text", "null text"]
    prove(job, texts, tmp_path, dict(zip(rows, reasons, strict=True)))
    assert manifest_of(job).files == [] and manifest_of(job).dimension is None


def test_duplicates_are_embedded_once(lake: str, tmp_path: Path) -> None:
    texts: list[Text] = ["same", "same", "other", "same", "same", "other", "other", "new"]
    job = make_job(lake, texts, checkpoint_rows=4)
    engine = CountingEngine(job.spec)
    canaries = len(CANARY_TEXTS)
    run(job, engine)
    assert sorted(map(text_of, engine.seen[-3:])) == ["new", "other", "same"]
    assert len(engine.seen) in (3, 3 + canaries)
    table = prove(job, texts, tmp_path)
    vectors = table.column("embedding").to_pylist()
    assert vectors[0] == vectors[1] == vectors[3] == vectors[4]
    assert manifest_of(job).duplicate_windows == 5


def test_a_long_text_of_many_windows(lake: str, tmp_path: Path) -> None:
    texts: list[Text] = ["before", "0123456789" * 500, "after"]
    job = make_job(lake, texts, checkpoint_rows=2)
    run(job)
    assert prove(job, texts, tmp_path).num_rows > 190


@pytest.mark.parametrize("limit", [1, 12_000])
def test_parts_are_split_at_their_size(lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", limit)
    texts: list[Text] = [None, None, *TEXTS, None, None]
    job = make_job(lake, texts, checkpoint_rows=2)
    run(job)
    rows = input_table(texts).column("row_id").to_pylist()
    prove(job, texts, tmp_path, {rows[i]: "null text" for i in (0, 1, -2, -1)})
    written = manifest_of(job).files
    assert [p.path for p in written] == [f"part-{i:05d}.parquet" for i in range(len(written))]
    assert all(p.rows for p in written), "no empty part"
    assert (len(written) == 11) if limit == 1 else (1 < len(written) < 11)


def test_parts_are_written_while_the_engine_is_at_work(
    lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", 1)
    job = make_job(lake, TEXTS, checkpoint_rows=2)
    store, at_work = Store(lake), []

    class Watching(CountingEngine):
        def hook(self, ids: tuple[int, ...], vector: np.ndarray) -> np.ndarray:
            at_work.append(sum(name.startswith("part-") for name in store.list(job.shard.folder)))
            if text_of(ids).startswith("text 20"):  # of the last checkpoint: the earlier ones' parts are about to come
                wait_until(lambda: store.exists(f"{job.shard.folder}/part-00003.parquet"), "the fourth part")
            return vector

    run(job, Watching(job.spec))
    prove(job, TEXTS, tmp_path)
    assert at_work[0] == 0 and len(manifest_of(job).files) == 11


def test_row_groups_are_cut_too(lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "ROW_GROUP_BYTES", 1)
    job = make_job(lake, TEXTS)
    run(job)
    prove(job, TEXTS, tmp_path)
    [part] = manifest_of(job).files
    assert pq.ParquetFile(f"{lake}/{job.shard.folder}/{part.path}").num_row_groups == 6


def test_a_part_explains_itself_when_it_is_found_alone(lake: str) -> None:
    job = make_job(lake, TEXTS)
    run(job)
    file = pq.ParquetFile(f"{lake}/{job.shard.folder}/part-00000.parquet")
    about = orjson.loads(file.schema_arrow.metadata[METADATA_KEY])
    assert about["spec_id"] == job.spec.spec_id and about["spec"] == job.spec.identity()
    assert about["partition"] == "books-00003" and about["input_digest"] == job.input.digest
    assert (
        about["partitioning"] == job.shard.partitioning.name and about["pipeline"] == "reviews" and about["format"] == 1
    )
    assert all(not field.nullable for field in file.schema_arrow)
    assert file.metadata.row_group(0).column(0).statistics.min == 3


# -- heartbeats ------------------------------------------------------------------------------------------


def test_the_last_heartbeat_tells_the_end(lake: str) -> None:
    job = make_job(lake, [*TEXTS, None])
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


# -- resume and adopt --------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [1, 5, 12, 19])
def test_a_stopped_run_is_resumed_where_it_was(lake: str, tmp_path: Path, after: int) -> None:
    job = make_job(lake, TEXTS)
    stop = threading.Event()
    first = StopAfter(job, stop, after)
    with pytest.raises(Preempted):
        run(job, first, stop)
    store = Store(lake)
    assert not store.exists(job.shard.manifest_path)
    committed = _committed_rows(store, job)
    second = CountingEngine(job.spec)
    assert run(job, second) is True
    prove(job, TEXTS, tmp_path)
    done = {TEXTS[i] for i in committed}
    assert not done & {text_of(ids) for ids in second.seen}, "nothing that was committed is embedded again"
    assert len(manifest_of(job).attempts) == 2
    assert leftovers(job) == []


def test_a_stopped_run_is_resumed_on_s3(s3_root: str, tmp_path: Path) -> None:
    job = _preempted(s3_root)
    engine = CountingEngine(job.spec)
    committed = _committed_rows(Store(s3_root), job)
    assert committed and run(job, engine)
    prove(job, TEXTS, tmp_path)
    assert not {TEXTS[i] for i in committed} & {text_of(ids) for ids in engine.seen}
    assert leftovers(job) == []


def _committed_rows(store: Store, job: EmbedJob) -> set[int]:
    names = [
        n for n in store.list(f"{job.shard.folder}/checkpoints/rows-{job.checkpoint_rows:07d}") if n.endswith(".json")
    ]
    size = job.checkpoint_rows
    return {row for name in names for row in range(int(name[:6]) * size, (int(name[:6]) + 1) * size)}


def test_stopped_before_it_began(lake: str) -> None:
    job = make_job(lake, TEXTS)
    stop = threading.Event()
    stop.set()
    with pytest.raises(Preempted):
        run(job, stop=stop)
    assert not Store(lake).exists(job.shard.manifest_path)


def test_a_committed_partition_is_adopted_without_a_model(any_lake: str, tmp_path: Path) -> None:
    job = make_job(any_lake, TEXTS)
    run(job)
    before = Store(any_lake).read(job.shard.manifest_path)
    assert run_job(job, no_model, threading.Event()) is False
    assert Store(any_lake).read(job.shard.manifest_path) == before
    prove(job, TEXTS, tmp_path)


def test_adoption_sweeps_what_a_killed_winner_left(lake: str, tmp_path: Path) -> None:
    job = make_job(lake, TEXTS)
    run(job)
    store = Store(lake)
    for name in (
        "checkpoints/rows-0000004/000001.dead.parquet",
        "part-00007.parquet",
        "rejects.parquet",
        "._manifest.json.1f.tmp",
        "notes.txt",
    ):
        store.create(f"{job.shard.folder}/{name}", b"left over")
    run_job(job, no_model, threading.Event())
    assert leftovers(job) == ["notes.txt"], "a stray part would be read as one of the shard's"
    prove(job, TEXTS, tmp_path)


def test_another_checkpoint_size_starts_anew_and_is_right(lake: str, tmp_path: Path) -> None:
    job = make_job(lake, TEXTS)
    stop = threading.Event()
    with pytest.raises(Preempted):
        run(job, StopAfter(job, stop, 12), stop)
    other = job.model_copy(update={"checkpoint_rows": 5})
    assert run(other)
    prove(other, TEXTS, tmp_path)
    assert leftovers(other) == []


# -- bad jobs -----------------------------------------------------------------------------------------------


def refused(job: EmbedJob) -> str:
    with pytest.raises(BadJob) as caught:
        run_job(job, no_model, threading.Event())
    assert exit_code_of(caught.value) == ExitCode.BAD_JOB
    return str(caught.value)


def test_a_shard_of_another_input_is_a_bad_job(lake: str) -> None:
    job = make_job(lake, TEXTS)
    run(job)
    other = job.model_copy(update={"input": job.input.model_copy(update={"digest": "another"})})
    message = refused(other)
    assert job.input.digest in message and "another" in message and "_manifest.json" in message


def test_checkpoints_of_another_input_are_a_bad_job(lake: str) -> None:
    job = make_job(lake, TEXTS)
    stop = threading.Event()
    with pytest.raises(Preempted):
        run(job, StopAfter(job, stop, 12), stop)
    other = job.model_copy(update={"input": job.input.model_copy(update={"digest": "another"})})
    assert "remove the folder" in refused(other)


@pytest.mark.parametrize("damage", ["missing", "truncated", "swapped"])
def test_an_input_file_that_is_not_the_one_named(any_lake: str, damage: str) -> None:
    job = make_job(any_lake, TEXTS, input_files=2)
    store = Store(any_lake)
    paths = [f"{job.input.path}/{f.path}" for f in job.input.files]
    before = store.read(paths[1])
    store.delete(paths[1])
    if damage == "truncated":
        store.create(paths[1], before[:-10])
    elif damage == "swapped":
        store.create(paths[1], store.read(paths[0]))
    message = refused(job)
    assert store.url(paths[1]) in message and "Re-materialize stride_partitions" in message


def test_an_input_of_another_length_or_without_a_column(lake: str) -> None:
    assert "has 22 rows, the job says 23" in refused(make_job(lake, TEXTS, rows=23))
    table = input_table(TEXTS).drop_columns(["text"])
    assert "no column text" in refused(make_job(f"{lake}2", TEXTS, table=table))


def test_a_damaged_manifest_is_a_bad_job(lake: str) -> None:
    job = make_job(lake, TEXTS)
    Store(lake).create(job.shard.manifest_path, b'{"format": 1')
    assert "_manifest.json" in refused(job)


def test_job_files(lake: str, tmp_path: Path) -> None:
    job = make_job(lake, TEXTS)
    assert load_job(write_job(job)) == job
    cases = {
        "missing.json": (None, "does not exist"),
        "broken.json": (b"{", "is not JSON"),
        "key.json": (orjson.dumps({**job.model_dump(mode="json"), "datset": "x"}), "datset"),
        "value.json": (orjson.dumps({**job.model_dump(mode="json"), "shard": {"method": "mod"}}), "shard"),
        "deep.json": (orjson.dumps({**job.model_dump(mode="json"), "spec": {"model": "x"}}), "spec.pooling"),
        "future.json": (orjson.dumps({**job.model_dump(mode="json"), "format": 2}), "format"),
    }
    for name, (text, complaint) in cases.items():
        path = tmp_path / name
        if text is not None:
            path.write_bytes(text)
        with pytest.raises(BadJobFile, match=complaint) as caught:
            load_job(str(path))
        assert str(path) in str(caught.value)
    with pytest.raises(BadJobFile, match="nonsense"):
        load_job("nonsense://x/job.json")


def test_the_job_file_is_named_by_all_that_is_in_it(lake: str) -> None:
    job = make_job(lake, TEXTS)
    assert EmbedJob.model_validate_json(job.model_dump_json()).fingerprint == job.fingerprint
    assert job.model_copy(update={"spec": make_spec(pooling="cls")}).fingerprint != job.fingerprint
    assert job.path == f"jobs/books-00003/{job.fingerprint}.json"


# -- faults that a retry heals --------------------------------------------------------------------------------


def _preempted(lake: str, after: int = 19) -> EmbedJob:
    job = make_job(lake, TEXTS)
    stop = threading.Event()
    with pytest.raises(Preempted):
        run(job, StopAfter(job, stop, after), stop)
    return job


@pytest.mark.parametrize("damage", ["cut", "missing", "other bytes"])
def test_damaged_checkpoint_data_is_made_anew_by_the_retry(lake: str, tmp_path: Path, damage: str) -> None:
    job = _preempted(lake)
    store = Store(lake)
    path = next(p for p, _ in store.walk(f"{job.shard.folder}/checkpoints") if p.endswith(".parquet"))
    before = store.read(path)
    store.delete(path)
    if damage == "cut":
        store.create(path, before[:-1])
    elif damage == "other bytes":
        store.create(path, bytes([before[0] ^ 1]) + before[1:])
    with pytest.raises(Exception, match=r"missing|bytes|sha256") as caught:
        run(job)
    assert exit_code_of(caught.value) == ExitCode.RETRY
    assert not store.exists(job.shard.manifest_path)
    assert run(job)
    prove(job, TEXTS, tmp_path)
    assert leftovers(job) == []


@pytest.mark.parametrize("text", [b"", b'{"index": 0}', b'{"from": "a later version"}'])
def test_an_unreadable_checkpoint_record_is_made_anew(lake: str, tmp_path: Path, text: bytes) -> None:
    job = _preempted(lake)
    store = Store(lake)
    path = next(p for p, _ in store.walk(f"{job.shard.folder}/checkpoints/rows-0000004") if p.endswith(".json"))
    store.delete(path)
    store.create(path, text)
    assert run(job)
    prove(job, TEXTS, tmp_path)


def test_a_record_whose_put_was_answered_twice_is_still_ours(
    lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client sends a put again when the answer got lost; the server then says that the name is taken."""
    create = Store.create

    def create_twice(self: Store, path: str, data: bytes) -> bool:
        create(self, path, data)
        return create(self, path, data)

    job = make_job(lake, TEXTS)
    monkeypatch.setattr(Store, "create", create_twice)
    run(job)
    prove(job, TEXTS, tmp_path)


def test_damaged_parts_of_a_dead_attempt_are_replaced(lake: str, tmp_path: Path) -> None:
    job = make_job(lake, TEXTS)
    store = Store(lake)
    store.create(f"{job.shard.folder}/part-00000.parquet", b"half a part")
    store.create(f"{job.shard.folder}/rejects.parquet", b"half")
    assert run(job)
    prove(job, TEXTS, tmp_path)
    assert leftovers(job) == []


def test_a_retired_manifest_has_the_work_done_anew(lake: str, tmp_path: Path) -> None:
    """How a damaged partition is repaired: its manifest goes first."""
    job = make_job(lake, TEXTS)
    run(job)
    store = Store(lake)
    part = f"{job.shard.folder}/part-00000.parquet"
    store.delete(part)
    store.create(part, b"damaged")
    store.delete(job.shard.manifest_path)
    assert run(job)
    prove(job, TEXTS, tmp_path)


def test_a_full_disk_is_retryable_and_then_resumed(small_disk: Path, tmp_path: Path) -> None:
    from embed_worker.__main__ import Worker

    texts = make_texts(400)
    job = make_job(str(small_disk / "lake"), texts, checkpoint_rows=20)
    url = write_job(job)
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(b"0" * 4096)
    with ballast.open("r+b") as file:
        file.truncate(ballast.stat().st_size - 100_000)
    code, error = Worker().run(url)
    assert code == ExitCode.RETRY
    assert error is not None and "no space left" in error and "Free some space" in error and "\n" not in error
    store = Store(job.lake)
    assert not store.exists(job.shard.manifest_path)
    assert store.list(".tmp") == []
    committed = _committed_rows(store, job)
    assert committed, "the test's disk must hold some checkpoints"
    assert not [p for p, _ in store.walk(job.shard.folder) if p.endswith(".tmp")]
    ballast.unlink()
    engine = CountingEngine(job.spec)
    assert run(job, engine)
    prove(job, texts, tmp_path)
    assert not {texts[i] for i in committed} & {text_of(ids) for ids in engine.seen}


def test_an_engine_that_breaks_is_worth_a_retry(lake: str, tmp_path: Path) -> None:
    class Breaking(CountingEngine):
        def hook(self, ids: tuple[int, ...], vector: np.ndarray) -> np.ndarray:
            if len(self.seen) == 14:
                raise RuntimeError("CUDA error: device-side assert")
            return vector

    job = make_job(lake, TEXTS)
    with pytest.raises(RuntimeError, match="CUDA"):
        run(job, Breaking(job.spec))
    assert _committed_rows(Store(lake), job)
    assert run(job)
    prove(job, TEXTS, tmp_path)


def test_the_engine_is_closed_when_a_run_ends_early(lake: str) -> None:
    """A vLLM that keeps its requests would answer them into the next job."""
    closed: list[str] = []

    class Closing(StopAfter):
        def embed(self, source: Any) -> Any:
            try:
                yield from super().embed(source)
            finally:
                closed.append("closed")

    job = make_job(lake, TEXTS)
    stop = threading.Event()
    engine = Closing(job, stop, 5)
    try:
        run(job, engine, stop)
    except Preempted as error:
        assert closed == ["closed"], f"while {error!r} and its frames still live"
    else:
        raise AssertionError("not stopped")


def test_a_slow_store_holds_the_engine_back_and_loses_nothing(
    lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe = files.describe

    def slow(*arguments: Any) -> Any:
        threading.Event().wait(0.02)
        return describe(*arguments)

    monkeypatch.setattr("embed_worker.attempt.checkpoints.files.describe", slow)
    job = make_job(lake, TEXTS, checkpoint_rows=1)
    assert run(job, HashEngine(job.spec))
    prove(job, TEXTS, tmp_path)
