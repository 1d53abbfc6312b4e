"""The feeder: requests in order, bounded, errors to the engine, and a stop that never hangs."""

import threading
from collections.abc import Iterator

import pyarrow as pa
import pytest

from embed_worker.attempt.feeder import AHEAD, Feeder
from embed_worker.attempt.open_checkpoint import OpenCheckpoint, open_checkpoint
from embed_worker.engine.hash import byte_tokenizer
from embed_worker.engine.tokens import TextTokenizer
from tests.kits.attempt.jobs import input_table, make_spec

TOKENIZER = TextTokenizer(byte_tokenizer(), make_spec())


def tables(count: int, rows: int = 3) -> Iterator[tuple[int, pa.Table]]:
    for index in range(count):
        yield index, input_table([f"text {index} {row}" for row in range(rows)])


def make(index: int, table: pa.Table) -> OpenCheckpoint:
    return open_checkpoint(index, table, TOKENIZER, "")


def finished(feeder: Feeder) -> None:
    feeder.stop()
    assert not feeder._thread.is_alive()


def test_all_requests_come_once_and_in_order() -> None:
    begun: list[int] = []
    feeder = Feeder(tables(5), make, lambda checkpoint: begun.append(checkpoint.index))
    keys = []
    while (request := feeder.take(block=True)) is not None:
        keys.append(request[0])
        assert begun[-1] == request[0][0], "begun before its first request"
    assert keys == [(index, row) for index in range(5) for row in range(3)]
    assert feeder.exhausted and feeder.take(block=True) is None and feeder.take(block=False) is None
    assert begun == [0, 1, 2, 3, 4]
    finished(feeder)


def test_skipped_and_empty_units() -> None:
    begun: list[int] = []

    def some(index: int, table: pa.Table) -> OpenCheckpoint | None:
        if index % 2:
            return None
        return make(index, input_table([" "]) if index == 2 else table)

    feeder = Feeder(tables(6), some, lambda checkpoint: begun.append(checkpoint.index))
    keys = []
    while (request := feeder.take(block=True)) is not None:
        keys.append(request[0][0])
    assert sorted(set(keys)) == [0, 4]
    assert begun == [0, 2, 4], "a checkpoint without sequences is begun too, so that it is committed"
    finished(feeder)


def test_without_block_it_never_waits() -> None:
    gate = threading.Event()

    def slow(index: int, table: pa.Table) -> OpenCheckpoint:
        assert gate.wait(60)
        return make(index, table)

    feeder = Feeder(tables(1), slow, lambda checkpoint: None)
    assert feeder.take(block=False) is None and not feeder.exhausted
    gate.set()
    assert feeder.take(block=True) is not None
    finished(feeder)


@pytest.mark.parametrize("where", ["reading", "tokenising"])
def test_an_error_in_the_thread_reaches_the_engine(where: str) -> None:
    def broken() -> Iterator[tuple[int, pa.Table]]:
        yield from tables(1)
        raise RuntimeError("reading")

    def refuse(index: int, table: pa.Table) -> OpenCheckpoint:
        raise RuntimeError("tokenising")

    feeder = Feeder(broken(), refuse if where == "tokenising" else make, lambda checkpoint: None)
    with pytest.raises(RuntimeError, match=where):
        while feeder.take(block=True) is not None:
            pass
    assert feeder.take(block=True) is None, "asking again must not wait for ever"
    finished(feeder)


def test_it_reads_ahead_but_only_so_far() -> None:
    made = threading.Semaphore(0)
    count = 0

    def counting(index: int, table: pa.Table) -> OpenCheckpoint:
        nonlocal count
        count += 1
        made.release()
        return make(index, table)

    feeder = Feeder(tables(50), counting, lambda checkpoint: None)
    for _ in range(AHEAD):
        assert made.acquire(timeout=60), "it must read ahead without being asked"
    assert not made.acquire(timeout=0.2), "no more"
    assert count == AHEAD
    finished(feeder)


@pytest.mark.parametrize("taken", [0, 1, 4])
def test_stop_never_hangs_and_drops_the_rest(taken: int) -> None:
    feeder = Feeder(tables(1000), make, lambda checkpoint: None)
    for _ in range(taken):
        feeder.take(block=True)
    finished(feeder)
    feeder.stop()


def test_stop_after_the_end_and_after_an_error() -> None:
    feeder = Feeder(tables(0), make, lambda checkpoint: None)
    assert feeder.take(block=True) is None
    finished(feeder)

    def broken() -> Iterator[tuple[int, pa.Table]]:
        raise RuntimeError
        yield

    finished(Feeder(broken(), make, lambda checkpoint: None))


def test_what_goes_first_is_taken_before_the_rest_and_after_the_last() -> None:
    feeder = Feeder(tables(1), make)
    first = feeder.take(block=True)
    assert first is not None and first[0] == (0, 0)
    feeder.go_first([((-1, 0), (7,)), ((-1, 1), (8,))])
    keys = [request[0] for request in iter(lambda: feeder.take(block=True), None)]
    assert keys == [(-1, 0), (-1, 1), (0, 1), (0, 2)]
    assert feeder.exhausted
    feeder.go_first([((-1, 0), (7,))])
    assert not feeder.exhausted
    assert feeder.take(block=True) == ((-1, 0), (7,))
    assert feeder.exhausted and feeder.take(block=True) is None
    finished(feeder)
