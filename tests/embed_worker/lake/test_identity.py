"""Keys of texts and digests of sets of rows."""

import hashlib
import random

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from embed_worker.lake.identity import RowsDigest, array_keys, rows_digest, text_key, text_keys

ROWS = st.lists(st.tuples(st.text(max_size=8), st.binary(min_size=16, max_size=16)), max_size=30)


def digest(rows: list[tuple[str, bytes]]) -> RowsDigest:
    return rows_digest([id_ for id_, _ in rows], [key for _, key in rows])


def test_the_format_stays() -> None:
    assert text_key("kettle").hex() == hashlib.blake2b(b"kettle", digest_size=16).hexdigest()
    assert str(rows_digest(["a", "b"], text_keys(["x", "y"]))) == "c974116652c32fdb8cf71e9a19a2f42d"


@given(ROWS, st.randoms(use_true_random=False))
def test_order_does_not_count(rows: list[tuple[str, bytes]], chance: random.Random) -> None:
    shuffled = list(rows)
    chance.shuffle(shuffled)
    assert digest(shuffled) == digest(rows)


@given(ROWS, ROWS)
def test_sets_add_up(one: list[tuple[str, bytes]], other: list[tuple[str, bytes]]) -> None:
    whole = digest(one + other)
    assert digest(one) + digest(other) == whole and whole - digest(other) == digest(one)
    assert RowsDigest.parse(whole.rows, str(whole)) == whole


@given(ROWS.filter(bool), st.integers(0, 10**6))
def test_another_row_is_another_set(rows: list[tuple[str, bytes]], at: int) -> None:
    id_, key = rows[at % len(rows)]
    changed = [*rows]
    changed[at % len(rows)] = (f"{id_}!", key)
    assert digest(changed).total != digest(rows).total
    changed[at % len(rows)] = (id_, bytes(reversed(key)) if key != key[::-1] else bytes(16) if any(key) else b"1" * 16)
    assert digest(changed).total != digest(rows).total
    assert digest(rows[1:]).total != digest(rows).total


@given(st.lists(st.text()), st.integers(0, 3), st.integers(0, 3))
def test_keys_of_an_array_are_those_of_its_texts(texts: list[str], start: int, size: int) -> None:
    array = pa.array(texts, pa.string())
    assert array_keys(array).to_pylist() == text_keys(texts)
    assert array_keys(array.slice(start, size)).to_pylist() == text_keys(texts[start : start + size])
