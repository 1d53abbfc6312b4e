"""Checkpoints on their way through the engine: rejects, duplicates."""

import numpy as np
import pyarrow as pa
import pytest

from embed_worker.attempt.open_checkpoint import OpenCheckpoint, open_checkpoint
from embed_worker.engine.hash import DIMENSION, byte_tokenizer
from embed_worker.engine.tokens import TextTokenizer
from embed_worker.lake.identity import text_key
from embed_worker.lake.table import shard_schema
from tests.kits.attempt.jobs import input_table, make_job, make_spec

TOKENIZER = TextTokenizer(byte_tokenizer(), make_spec(max_tokens=12, overlap=2))


def unit_of(texts: list[str], prompt: str = "") -> OpenCheckpoint:
    return open_checkpoint(7, input_table(texts), TOKENIZER, prompt)


def fill(checkpoint: OpenCheckpoint, dtype: str = "float32") -> OpenCheckpoint:
    checkpoint.begin(4, dtype)
    for sequence in range(len(checkpoint.sequences)):
        checkpoint.put(sequence, np.full(4, sequence, dtype=np.float32))
    return checkpoint


def test_rows_without_text_are_rejected_with_their_reason() -> None:
    checkpoint = unit_of(["a", "", " \t\n\u00a0", "b"])
    assert [(r.id, r.reason) for r in checkpoint.all_rejects()] == [("id-13", "blank text"), ("id-23", "blank text")]
    assert checkpoint.rows == 4 and list(checkpoint.row_of) == [0, 3]


def test_identical_sequences_are_given_to_the_engine_once() -> None:
    checkpoint = unit_of(["same", "other", "same", "same"])
    assert len(checkpoint.sequences) == 2
    assert list(checkpoint.sequence_of) == [0, 1, 0, 0]


def test_windows_carry_chunk_numbers_and_passages() -> None:
    checkpoint = unit_of(["short", "abcdefghijklmnopqrst"])
    assert list(checkpoint.row_of) == [0, 1, 1, 1]
    assert list(checkpoint.numbers) == [0, 0, 1, 2]
    assert [(int(s), int(e)) for s, e in zip(checkpoint.starts, checkpoint.ends, strict=True)] == [
        (0, 5),
        (0, 10),
        (8, 18),
        (16, 20),
    ]
    assert list(checkpoint.n_tokens) == [len(checkpoint.sequences[s]) for s in checkpoint.sequence_of]


def test_put_says_when_the_last_one_is_in() -> None:
    checkpoint = unit_of(["a", "b", "c"])
    checkpoint.begin(4, "float32")
    assert [checkpoint.put(s, np.ones(4, dtype=np.float32)) for s in (2, 0, 1)] == [False, False, True]


@pytest.mark.parametrize("bad", ["engine: too long", np.nan, np.inf, -np.inf])
def test_one_refused_window_refuses_its_row_whole_and_all_its_duplicates(lake: str, bad: object) -> None:
    checkpoint = unit_of(["keep", "abcdefghijklmnopqrst", "abcdefghij", " "])
    assert checkpoint.sequence_of[1] == checkpoint.sequence_of[4], "the row's first window is the other row's only one"
    checkpoint.begin(DIMENSION, "float32")
    for sequence in range(len(checkpoint.sequences)):
        vector = np.full(DIMENSION, sequence, dtype=np.float32)
        if sequence == checkpoint.sequence_of[1]:
            if isinstance(bad, str):
                checkpoint.put(sequence, bad)
                continue
            vector[5] = bad
        checkpoint.put(sequence, vector)
    reason = bad if isinstance(bad, str) else "non-finite vector"
    assert [(r.id, r.reason) for r in checkpoint.all_rejects()] == [
        ("id-13", reason),
        ("id-23", reason),
        ("id-33", "blank text"),
    ]
    assert checkpoint.all_rejects()[0].text_key == text_key("abcdefghijklmnopqrst").hex()
    table = checkpoint.table(shard_schema(make_job(lake, ["x"]), DIMENSION))
    assert table is not None and table.column("id").to_pylist() == ["id-3"]


def test_a_vector_that_overflows_the_stored_type_is_refused() -> None:
    checkpoint = unit_of(["a", "b"])
    checkpoint.begin(4, "float16")
    checkpoint.put(0, np.array([1, 2, 3, 70_000], dtype=np.float32))
    checkpoint.put(1, np.array([1, 2, 3, 65_000], dtype=np.float32))
    assert [(r.id, r.reason) for r in checkpoint.all_rejects()] == [("id-3", "non-finite vector")]


def test_the_table_is_in_the_shards_schema(lake: str) -> None:
    for dtype, kind in (("float32", pa.float32()), ("float16", pa.float16())):
        schema = shard_schema(make_job(f"{lake}-{dtype}", ["x"], output_dtype=dtype), 4)
        table = fill(unit_of(["one", "two", "one"]), dtype).table(schema)
        assert table is not None
        table.validate(full=True)
        assert table.schema.equals(schema, check_metadata=True)
        assert table.schema.field("embedding").type.value_type == kind
        assert table.column("embedding").to_pylist() == [[0] * 4, [1] * 4, [0] * 4]


def test_a_checkpoint_of_rejects_alone_has_no_table(lake: str) -> None:
    checkpoint = fill(unit_of(["\t", ""]))
    assert checkpoint.sequences == [] and checkpoint.table(shard_schema(make_job(lake, ["x"]), 4)) is None
