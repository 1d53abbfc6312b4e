"""The one reader of `progress/`: hostile and damaged files harm nobody, whatever they hold."""

import os
import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed_worker.lake.attempts import Attempt, Hardware
from embed_worker.lake.clock import now_by_writing
from embed_worker.lake.errors import StoreUnavailable
from embed_worker.lake.heartbeats import GivenUp, Heartbeat, LastWord, Seen, parse, read_progress
from embed_worker.lake.store import Store


@pytest.fixture
def store(lake: str) -> Store:
    return Store(lake)


SHARD = {
    "dataset": "books", "spec_id": "m-0123", "input_digest": "0123", "method": "stride", "count": 8, "stride": 1,
}  # fmt: skip
BEAT: dict[str, Any] = {
    "shard": SHARD, "attempt": "a1", "phase": "embedding", "rows": 10, "rows_done": 4, "seconds": 2.5, "spot": True,
    "price_per_hour": 0.2, "at": "2026-01-01T00:00:00+00:00", "hardware": {"gpus": ["NVIDIA L4"], "cores": 8},
}  # fmt: skip
PATH = "progress/books-00001/a1.json"

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


def beat(**changes: Any) -> Heartbeat | GivenUp | None:
    return parse(PATH, orjson.dumps(BEAT | changes))


@given(st.dictionaries(st.sampled_from(sorted(Heartbeat.model_fields)), JSON))
def test_no_value_makes_the_reader_raise_and_none_of_another_kind_gets_through(changes: dict[str, Any]) -> None:
    found = parse(PATH, orjson.dumps(BEAT | changes, default=str) if _fits(changes) else b"{")
    if found is None:
        return
    assert isinstance(found, Heartbeat)
    for number in (found.rows, found.rows_done, found.tokens_own, found.seconds, found.price_per_hour or 0):
        assert 0 <= number < 1e18 and not isinstance(number, bool)
    assert found.hardware is None or isinstance(found.hardware, Hardware)
    assert all(len(text or "") <= 300 for text in (found.phase, found.host, found.error, found.region))
    assert found.model_dump_json()


def _fits(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except TypeError:  # beyond 64 bits, or half a surrogate pair
        return False
    return True


@given(JSON.filter(_fits) | st.binary(max_size=40))
def test_anything_else_is_no_heartbeat(value: Any) -> None:
    data = value if isinstance(value, bytes) else orjson.dumps(value)
    assert parse(PATH, data) is None
    assert parse("progress/books-00001/_given-up-f.json", data) is None


def test_what_does_not_fit_is_unknown_and_the_rest_is_taken() -> None:
    found = beat(
        rows=-5, rows_done=True, tokens_done=1e300, seconds="fast", phase=["x"], spot=1, price_per_hour=0, host=5,
        hardware={"gpus": "L4", "cores": 4}, at="2026-01-01", error="x" * 1000, lane="", engine={"a": 5},
    )  # fmt: skip
    assert isinstance(found, Heartbeat)
    assert (found.rows, found.rows_done, found.tokens_done, found.seconds, found.phase) == (0, 0, 0, 0.0, "unknown")
    assert (found.spot, found.price_per_hour, found.host, found.at, found.lane) == (None, None, "5", None, None)
    assert found.hardware == Hardware(cores=4) and found.engine == {} and len(found.error or "") == 300
    assert Attempt.model_validate({"attempt": "x", "region": {"$": 1}}) == Attempt(attempt="x")


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "../../etc"}, {"dataset": "Books"}, {"dataset": "books\n"}, {"spec_id": "../x"}, {"spec_id": "a/b"},
        {"spec_id": ".."}, {"spec_id": "s\n"}, {"input_digest": "../x"}, {"input_digest": None}, {"method": "at random"},
        {"stride": -1}, {"stride": "x"}, {"dataset": "other"}, {"stride": 2}, {"more": 1},
    ],
)  # fmt: skip
def test_one_that_points_elsewhere_is_none(change: dict[str, Any]) -> None:
    assert beat() is not None
    assert beat(shard=SHARD | change) is None


@pytest.mark.parametrize("attempt", [None, "a2", "../a1", ""])
def test_one_of_another_name_is_none(attempt: Any) -> None:
    assert beat(attempt=attempt) is None


def test_what_can_be_read_is_read_with_the_stores_time(lake: str) -> None:
    store = Store(lake)
    word = {"shard": SHARD, "error": "no capacity"}
    files = {
        PATH: orjson.dumps(BEAT), "progress/books-00001/_given-up-f.json": orjson.dumps(word),
        "progress/books-00001/half.json": b"{", "progress/books-00002/a1.json": orjson.dumps(BEAT),
        "progress/books-00001/large.json": b" " * 70_000, "progress/stray.json": orjson.dumps(BEAT),
        f"progress/books-00001/.a1.json.{'0' * 32}.tmp": orjson.dumps(BEAT),
    }  # fmt: skip
    for path, data in files.items():
        store.create(path, data)
        os.utime(store.path(path), (1000, 1000))
    found = list(read_progress(store))
    assert [file.path for file, _ in found] == ["progress/books-00001/_given-up-f.json", PATH]
    [word_found, seen] = [what for _, what in found]
    assert isinstance(word_found, LastWord) and word_found.word.error == "no capacity" and word_found.written == 1000
    assert isinstance(seen, Seen) and (seen.written, seen.begun, seen.age(1060), seen.age(0)) == (1000, 997.5, 60, 0)


@pytest.mark.parametrize("where", ["lake", "s3_root"])
def test_the_stores_time_is_told(request: pytest.FixtureRequest, where: str) -> None:
    store = Store(request.getfixturevalue(where))
    store.create("x", b"")
    assert abs(store.now() - time.time()) < 600
    assert abs(now_by_writing(store) - time.time()) < 600
    assert [path for path, _ in store.walk("")] == ["x"], "nothing is left of asking"
    with pytest.raises(StoreUnavailable, match="there is no such"):
        Store(f"{where}/no" if where == "lake" else "s3://no-such/lake").now()
