"""Texts that earlier shards know keep their vectors; nothing that is not proved is taken."""

import itertools
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embed_worker.attempt.runner import run_job
from embed_worker.compose import compose as compose_url
from embed_worker.engine.hash import byte_tokenizer
from embed_worker.engine.tokens import TextTokenizer
from embed_worker.errors import Preempted
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.layout import Partitioning
from embed_worker.lake.spec import EmbeddingSpec
from embed_worker.lake.store import Store
from tests.kits.attempt.histories import MARK, Marked, bases, cut, prove_rows, proved, rows_of, sequences_of, with_bases
from tests.kits.attempt.jobs import CountingEngine, loaded, manifest_of, no_model, run, shard_table, write_job

TEXTS = ["", "  ", *(f"t{n} " * (1 + n % 3) + "long and longer " * (n % 4 == 3) * 4 for n in range(14))]
IDS = [f"k{n}" for n in range(16)]
CUTS = st.builds(Partitioning, st.sampled_from(["content", "content", "stride", "contiguous"]), st.integers(1, 4))
SNAPSHOTS = st.lists(
    st.tuples(st.dictionaries(st.sampled_from(IDS), st.sampled_from(TEXTS), min_size=1), CUTS), min_size=1, max_size=3
)


def no_tokenizer(spec: EmbeddingSpec) -> TextTokenizer:
    raise AssertionError("no text must be tokenised")


def compose(job: EmbedJob) -> bool:
    return run_job(job, no_model, threading.Event(), no_tokenizer)


def embed_all(jobs: list[EmbedJob]) -> None:
    for job in jobs:
        run(job)


@settings(max_examples=25, deadline=None)
@given(SNAPSHOTS, st.randoms(use_true_random=False), st.sampled_from(["float32", "float16"]))
def test_any_history_gives_what_a_run_from_nothing_gives(history: Any, random: Any, dtype: str) -> None:
    with tempfile.TemporaryDirectory() as lake:
        earlier: list[EmbedJob] = []
        seen: set[str] = set()
        for rows, partitioning in history:
            jobs = cut(lake, rows, partitioning, spec={"output_dtype": dtype})
            random.shuffle(earlier)
            texts: set[str] = set()
            for job in with_bases(jobs, *earlier):
                engine = CountingEngine(job.spec)
                run(job, engine)
                mine = rows_of(job, rows)
                prove_rows(job, mine)
                said = {row["text"] for row in mine if row["text"].strip()}
                texts |= said
                if job.shard not in {one.shard for one in earlier}:
                    new = said - seen
                    assert len(engine.seen) == len(set(engine.seen)) and set(engine.seen) == sequences_of(job, new)
                    known = [row for row in mine if row["text"] in said & seen]
                    assert manifest_of(job).rows_reused == len(known)
            seen |= texts
            earlier = list({job.shard: job for job in [*earlier, *jobs]}.values())


def test_known_texts_keep_the_vectors_of_their_engine(tmp_path: Path) -> None:
    rows = {f"k{n}": TEXTS[2 + n % 12] for n in range(12)}
    (old,) = cut(str(tmp_path), rows, Partitioning("content", 1))
    run(old, Marked(old.spec, MARK))
    more = rows | {"new": "never seen", "k0": "edited"}
    (job,) = with_bases(cut(str(tmp_path), more, Partitioning("content", 1)), old)
    run(job)
    before, after = shard_table(old, tmp_path), shard_table(job, tmp_path)
    vectors = {}
    for table in (before, after):
        for row in table.to_pylist():
            vectors.setdefault((row["id"], row["text_key"], row["chunk"]), []).append(np.asarray(row["embedding"]))
    kept = [pair for pair in vectors.values() if len(pair) == 2]
    assert len(kept) > 12
    for one, other in kept:
        np.testing.assert_array_equal(one, other)
    manifest = manifest_of(job)
    assert (manifest.rows_in, manifest.rows_embedded, manifest.rows_reused) == (13, 2, 11)
    (reused,) = manifest.reused
    assert (reused.folder, reused.data_version) == (old.shard.folder, manifest_of(old).data_version)
    assert manifest.tokens_embedded == len("never seen") + 2 + len("edited") + 2


def test_where_every_text_is_known_no_engine_is_loaded(tmp_path: Path) -> None:
    rows = {f"k{n}": TEXTS[n % len(TEXTS)] for n in range(30)}
    old = cut(str(tmp_path), rows, Partitioning("content", 3))
    embed_all(old)
    for job in with_bases(
        cut(str(tmp_path), {k: v for k, v in rows.items() if k != "k4"}, Partitioning("content", 2)), *old
    ):
        assert compose(job)
        prove_rows(job, rows_of(job, {k: v for k, v in rows.items() if k != "k4"}))
        manifest = manifest_of(job)
        assert manifest.rows_embedded == 0 and manifest.engine_of in {base.shard.folder for base in old}
        assert manifest.canaries == manifest_of(old[0]).canaries and manifest.engine["engine"] == "hash"


def test_an_input_of_no_text_is_composed_beside_any_shard(tmp_path: Path) -> None:
    (old,) = cut(str(tmp_path), {"a": "text"}, Partitioning("content", 1))
    run(old)
    (job,) = with_bases(cut(str(tmp_path), {"a": " "}, Partitioning("content", 1)), old)
    assert compose(job)
    assert (manifest_of(job).rows_rejected, manifest_of(job).dimension) == (1, None)
    assert manifest_of(job).engine_of == old.shard.folder


def test_texts_without_tokens_are_known_by_an_earlier_shards_rejects(tmp_path: Path) -> None:
    class Deaf(TextTokenizer):
        def windows(self, texts: list[str], prompt: str = "") -> Any:
            return [
                [] if text == "mute" else found
                for text, found in zip(texts, super().windows(texts, prompt), strict=True)
            ]

    rows = {"a": "mute", "b": "said", "c": " "}
    old, job = (cut(str(tmp_path), found, Partitioning("content", 1))[0] for found in (rows, rows | {"d": "mute"}))
    run_job(old, lambda: loaded(old.spec), threading.Event(), lambda spec: Deaf(byte_tokenizer(), spec))
    (job,) = with_bases([job], old)
    assert compose(job)
    assert manifest_of(job).rejects_by_reason == {"no tokens": 2, "blank text": 1}


def test_a_whole_base_gives_all_it_has(tmp_path: Path) -> None:
    rows, old = bases(tmp_path)
    (job,) = with_bases(cut(str(tmp_path), rows | {"x": "new"}, Partitioning("content", 1)), old)
    run(job)
    assert proved(job, rows | {"x": "new"}, old) == manifest_of(old).windows


def test_few_texts_of_a_large_base_are_read_by_their_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embed_worker.attempt.parts.ROW_GROUP_BYTES", 1)
    rows, old = bases(tmp_path, 2000)
    size = sum(file.bytes for file in manifest_of(old).files)
    some = dict(itertools.islice(rows.items(), 1)) | {"x": "new"}
    (job,) = with_bases(cut(str(tmp_path), some, Partitioning("content", 1)), old)
    asked: list[int] = []
    original = Store.open

    def opened(store: Store, path: str, **options: Any) -> Any:
        if "/part-" in path and old.shard.folder in path:
            assert options == {"sparse": True}, "the file is not read whole"
            asked.append(1)
        return original(store, path, **options)

    monkeypatch.setattr(Store, "open", opened)
    run(job)
    assert proved(job, some, old) == 1 and asked and size > 100_000


def test_a_base_of_another_spec_is_refused_by_the_job(tmp_path: Path) -> None:
    (old,) = cut(str(tmp_path), {"a": "text"}, Partitioning("content", 1))
    (other,) = cut(str(tmp_path), {"a": "text"}, Partitioning("content", 1), spec={"max_tokens": 16})
    with pytest.raises(ValueError, match="is of another spec"):
        EmbedJob.model_validate({**other.model_dump(), "reuse": [old.shard]})
    assert with_bases([old], other)[0].name == old.name, "a live job is found whatever it reuses"


def test_what_an_engine_has_embedded_meanwhile_is_not_committed_with_anothers_canaries(tmp_path: Path) -> None:
    rows = {f"k{n}": f"text {n}" for n in range(9)}
    (old,) = cut(str(tmp_path), rows, Partitioning("content", 1))
    run(old)
    (job,) = cut(str(tmp_path), {k: v for k, v in rows.items() if k != "k8"}, Partitioning("content", 1))
    stop = threading.Event()

    class Stops(CountingEngine):
        def hook(self, ids: tuple[int, ...], vector: np.ndarray) -> np.ndarray:
            if len(self.seen) == 5:
                stop.set()
            return vector

    with pytest.raises(Preempted):
        run(job, Stops(job.spec), stop)
    (job,) = with_bases([job], old)
    run(job)
    manifest = manifest_of(job)
    assert manifest.engine_of is None and manifest.rows_embedded == 3 and manifest.rows_reused == 5


def test_a_zombie_of_the_old_base_beside_the_new_job_changes_neither(tmp_path: Path) -> None:
    rows = {f"k{n}": f"text number {n}" for n in range(30)}
    (old,) = cut(str(tmp_path), rows, Partitioning("content", 1))
    begun, go_on = threading.Event(), threading.Event()

    class Held(CountingEngine):
        def hook(self, ids: tuple[int, ...], vector: np.ndarray) -> np.ndarray:
            begun.set()
            assert go_on.wait(60)
            return vector

    zombie = threading.Thread(target=run, args=(old, Held(old.spec)))
    zombie.start()
    assert begun.wait(60)
    run(old, Marked(old.spec, MARK))
    committed = manifest_of(old)
    (job,) = with_bases(cut(str(tmp_path), rows | {"x": "new"}, Partitioning("content", 1)), old)
    run(job)
    made = manifest_of(job)
    go_on.set()
    zombie.join()
    assert (manifest_of(old), manifest_of(job)) == (committed, made)
    assert proved(job, rows | {"x": "new"}, old) == 30


def test_what_cannot_be_composed_is_left_as_it_was(tmp_path: Path) -> None:
    rows, old = bases(tmp_path, 20)
    store = Store(old.lake)
    known, unknown = (
        with_bases(cut(str(tmp_path), found, Partitioning("content", 1)), old)[0]
        for found in (dict(itertools.islice(rows.items(), 10)), rows | {"x": "new"})
    )
    before = {path for path, _ in store.walk("")}
    assert compose_url(write_job(unknown)) == "earlier shards do not know every text"
    assert {path for path, _ in store.walk("")} == before | {unknown.path}
    assert compose_url(write_job(unknown.model_copy(update={"reuse": []}))) == "there is no earlier shard"
    assert compose_url(write_job(known)) is None
    assert manifest_of(known).rows_reused == 10 and manifest_of(known).engine_of == old.shard.folder
