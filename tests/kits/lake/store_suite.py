"""What the commit protocol needs of a store. Each store is a subclass that gives `root`."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from embed_worker.lake.store import Store, to_json


def race(count: int, act: Callable[[int], bool]) -> list[int]:
    """Runs `act` in `count` threads at the same moment; the numbers of those that won."""
    barrier = threading.Barrier(count)
    winners: list[int] = []
    errors: list[BaseException] = []

    def one(number: int) -> None:
        barrier.wait()
        try:
            if act(number):
                winners.append(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    return winners


class StoreSuite:
    @pytest.fixture
    def root(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def store(self, root: str) -> Store:
        return Store(root)

    # -- create-only ---------------------------------------------------------------------------------

    def test_first_create_wins_and_the_second_changes_nothing(self, store: Store) -> None:
        assert store.create("a/b/c.json", b"first") is True
        assert store.create("a/b/c.json", b"second, and longer") is False
        assert store.read("a/b/c.json") == b"first"

    def test_create_file_is_create_only_too(self, store: Store, tmp_path: Path) -> None:
        one, two = tmp_path / "one", tmp_path / "two"
        one.write_bytes(b"1" * 300_000)
        two.write_bytes(b"2")
        assert store.create_file("x/part.parquet", one) is True
        assert store.create_file("x/part.parquet", two) is False
        assert store.read("x/part.parquet") == b"1" * 300_000
        assert one.exists() and two.read_bytes() == b"2"

    def test_create_and_create_file_exclude_each_other(self, store: Store, tmp_path: Path) -> None:
        source = tmp_path / "source"
        source.write_bytes(b"file")
        assert store.create("one", b"bytes") and not store.create_file("one", source)
        assert store.create_file("two", source) and not store.create("two", b"bytes")
        assert (store.read("one"), store.read("two")) == (b"bytes", b"file")

    def test_create_file_from_the_stores_own_scratch(self, store: Store) -> None:
        with store.scratch() as scratch:
            source = scratch / "data"
            source.write_bytes(b"data")
            assert store.create_file("a/data", source)
            source.unlink()
        assert store.read("a/data") == b"data"
        assert not scratch.exists()

    def test_an_empty_file_counts_as_a_file(self, store: Store) -> None:
        assert store.create("empty", b"") and not store.create("empty", b"x")
        assert store.read("empty") == b""

    def test_create_works_again_after_a_delete(self, store: Store) -> None:
        store.create("a", b"1")
        store.delete("a")
        assert store.create("a", b"2") and store.read("a") == b"2"

    def test_a_losing_create_leaves_no_other_file(self, store: Store, tmp_path: Path) -> None:
        source = tmp_path / "source"
        source.write_bytes(b"x")
        store.create("folder/a", b"1")
        store.create("folder/a", b"2")
        store.create_file("folder/a", source)
        assert [path for path, _ in store.walk("folder")] == ["folder/a"]

    def test_create_json_reads_back(self, store: Store) -> None:
        value = {"a": [1, 2.5, None, "Größe 東京"], "b": {"c": True}}
        assert store.create_json("v.json", value) and store.read_json("v.json") == value
        assert store.read("v.json") == to_json(value)

    def test_of_20_threads_exactly_one_creates(self, root: str) -> None:
        for number in range(3):
            path = f"race/{number}/record.json"
            winners = race(20, lambda n, path=path: Store(root).create(path, str(n).encode()))  # type: ignore[misc]
            assert len(winners) == 1
            assert Store(root).read(path) == str(winners[0]).encode()
        assert len(list(Store(root).walk("race"))) == 3

    def test_of_20_threads_exactly_one_creates_the_file(self, root: str, tmp_path: Path) -> None:
        for number in range(20):
            (tmp_path / str(number)).write_bytes(str(number).encode() * 1000)
        winners = race(20, lambda n: Store(root).create_file("race/part.parquet", tmp_path / str(n)))
        assert len(winners) == 1
        assert Store(root).read("race/part.parquet") == str(winners[0]).encode() * 1000

    # -- replace -------------------------------------------------------------------------------------

    def test_replace_makes_and_overwrites(self, store: Store) -> None:
        store.replace("d/_latest.json", b"old and long")
        store.replace("d/_latest.json", b"new")
        assert store.read("d/_latest.json") == b"new"
        assert store.list("d") == ["_latest.json"]

    def test_a_reader_sees_old_or_new_never_a_mixture(self, root: str) -> None:
        values = [bytes([65 + n]) * 50_000 for n in range(4)]
        Store(root).replace("moving", values[0])
        stop = threading.Event()
        seen: set[bytes] = set()

        def read() -> None:
            store = Store(root)
            while not stop.is_set():
                seen.add(store.read("moving"))

        reader = threading.Thread(target=read)
        reader.start()
        store = Store(root)
        for number in range(40):
            store.replace("moving", values[number % 4])
        stop.set()
        reader.join()
        assert seen and seen <= set(values)

    # -- reading -------------------------------------------------------------------------------------

    def test_missing_things(self, store: Store) -> None:
        assert store.exists("no/file") is False
        assert store.list("no/folder") == []
        assert list(store.walk("no/folder")) == []
        with pytest.raises(FileNotFoundError):
            store.read("no/file")
        with pytest.raises(FileNotFoundError):
            store.read_json("no/file")
        with pytest.raises(FileNotFoundError), store.open("no/file") as file:
            file.read()

    def test_json_that_is_none_names_the_file(self, store: Store) -> None:
        store.create("bad.json", b'{"a": ')
        with pytest.raises(ValueError, match=r"bad\.json is not JSON"):
            store.read_json("bad.json")

    def test_list_gives_names_of_files_and_folders_in_order(self, store: Store) -> None:
        for path in ("f/b.json", "f/a.json", "f/sub/deep/c.json", "f2/d.json"):
            store.create(path, b"1")
        assert store.list("f") == ["a.json", "b.json", "sub"]
        assert store.list("") == ["f", "f2"]
        assert store.list("f/a.json") == []

    def test_list_sees_what_was_just_written(self, store: Store) -> None:
        assert store.list("f") == []
        store.create("f/1", b"")
        assert store.list("f") == ["1"]
        store.create("f/2", b"")
        assert store.list("f") == ["1", "2"]
        store.delete("f/1")
        assert store.list("f") == ["2"]

    def test_walk_gives_every_file_with_its_size(self, store: Store) -> None:
        for path, size in (("w/b", 3), ("w/a/x", 0), ("w/a/y/z", 70_000), ("other", 1)):
            store.create(path, b"0" * size)
        assert list(store.walk("w")) == [("w/a/x", 0), ("w/a/y/z", 70_000), ("w/b", 3)]
        assert [path for path, _ in store.walk("")] == ["other", "w/a/x", "w/a/y/z", "w/b"]

    def test_listing_of_a_file_is_that_file(self, store: Store) -> None:
        store.create("w/a", b"123")
        assert [(one.path, one.bytes) for one in store.listing("w/a")] == [("w/a", 3)]

    def test_open_reads_in_blocks(self, store: Store) -> None:
        store.create("big", b"0123456789" * 30_000)
        with store.open("big") as file:
            assert file.read(10) == b"0123456789"
            assert len(file.read()) == 299_990

    # -- delete and exists ----------------------------------------------------------------------------

    def test_delete_takes_a_file_or_a_folder_and_only_that(self, store: Store) -> None:
        for path in ("d/a", "d/sub/b", "d/sub/c/d", "d2/x", "dd"):
            store.create(path, b"1")
        store.delete("d/sub")
        assert [path for path, _ in store.walk("")] == ["d/a", "d2/x", "dd"]
        store.delete("d")
        assert [path for path, _ in store.walk("")] == ["d2/x", "dd"]
        assert not store.exists("d/a") and store.exists("d2/x") and store.exists("dd")

    def test_deleting_what_is_gone_is_fine(self, store: Store) -> None:
        store.delete("never/was")
        store.create("a", b"1")
        store.delete("a")
        store.delete("a")
        assert not store.exists("a")

    def test_the_lake_itself_is_never_deleted(self, store: Store) -> None:
        store.create("a", b"1")
        for path in ("", ".", "a/.."):
            with pytest.raises(ValueError):
                store.delete(path)
        assert store.exists("a")

    @pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/x", "a/..", "./a", "a\\..\\b", "a\x00b"])
    def test_paths_that_lead_out_are_refused(self, store: Store, path: str, tmp_path: Path) -> None:
        source = tmp_path / "source"
        source.write_bytes(b"x")
        acts: list[Callable[[], object]] = [
            lambda: store.create(path, b"x"),
            lambda: store.create_file(path, source),
            lambda: store.replace(path, b"x"),
            lambda: store.read(path),
            lambda: store.open(path).__enter__(),
            lambda: store.exists(path),
            lambda: store.list(path),
            lambda: list(store.walk(path)),
            lambda: store.delete(path),
        ]
        for act in acts:
            with pytest.raises(ValueError, match="leads out of the lake"):
                act()

    def test_url_is_what_an_operator_can_paste(self, store: Store, root: str) -> None:
        assert store.url("a/b") == f"{root}/a/b"
        assert Store(store.root).root == store.root
