"""A source on a server arrives whole, whatever its connection does."""

import io
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from embed_worker.lake.store import Store
from embed_worker.steps import resumed
from embed_worker.steps.raw import ingest
from embed_worker.steps.resumed import Resumed
from tests.kits import pipelines as kit

DATA = bytes(range(256)) * 400


class Breaking:
    """A server's file whose connection breaks at some reads, or ends early."""

    def __init__(self, breaks: list[int], *, seekable: bool, how: str) -> None:
        self.breaks, self.can_seek, self.how, self.opened, self.reads = breaks, seekable, how, 0, 0

    def __call__(self) -> Any:
        self.opened += 1
        outer, raw = self, io.BytesIO(DATA)

        class File:
            size = len(DATA)

            def read(self, size: int = -1) -> bytes:
                outer.reads += 1
                if outer.reads in outer.breaks:
                    if outer.how == "ends":
                        return b""
                    raise ConnectionResetError("reset by peer")
                return raw.read(min(size, 5000) if size >= 0 else size)

            def seekable(self) -> bool:
                return outer.can_seek

            def seek(self, offset: int, whence: int = 0) -> int:
                assert outer.can_seek
                return raw.seek(offset, whence)

            def tell(self) -> int:
                return raw.tell()

            def close(self) -> None:
                pass

        return File()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumed, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(resumed, "MAX_WAIT_SECONDS", 0.0)


@pytest.mark.parametrize("how", ["breaks", "ends"])
@pytest.mark.parametrize("seekable", [True, False])
def test_a_file_is_read_on_where_its_connection_broke(seekable: bool, how: str) -> None:
    server = Breaking([2, 3, 5, 6, 7, 9, 12, 14, 16, 18], seekable=seekable, how=how)
    with Resumed(server) as file:
        found = b"".join(iter(lambda: file.read(7000), b""))
    assert found == DATA
    assert server.opened >= 10


def test_a_server_that_gives_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumed, "PATIENCE_SECONDS", 0.01)
    with (
        Resumed(Breaking(list(range(1, 10**6)), seekable=True, how="breaks")) as file,
        pytest.raises(ConnectionResetError),
    ):
        file.read(10)


def test_what_no_patience_mends_is_raised_at_once() -> None:
    opened = []

    def absent() -> Any:
        opened.append(1)
        raise FileNotFoundError("gone")

    with pytest.raises(FileNotFoundError):
        Resumed(absent)
    assert len(opened) == 1


def test_a_source_on_a_server_that_breaks_ten_times_arrives_whole(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = kit.texts(500)
    data = kit.write_jsonl(tmp_path / "s.jsonl", records).read_bytes()
    fs: MemoryFileSystem = fsspec.filesystem("memory")
    fs.pipe_file("/breaking/s.jsonl", data)
    monkeypatch.setattr("embed_worker.steps.ranges.RANGE_BYTES", 4000)
    left, original = [10], MemoryFileSystem.open

    def breaking(self: MemoryFileSystem, path: str, mode: str = "rb", **options: Any) -> Any:
        file = original(self, path, mode, **options)
        if left[0] and mode == "rb":
            left[0] -= 1
            inner = io.BytesIO(data)
            inner.size = len(data)  # type: ignore[attr-defined]

            class Broken(io.BytesIO):
                size = len(data)

                def read(self, size: int | None = -1) -> bytes:
                    raise TimeoutError("the server does not answer")

            return Broken(data)
        return file

    monkeypatch.setattr(MemoryFileSystem, "open", breaking)
    made = ingest(store, kit.dataset("memory://breaking/s.jsonl", id="{key}")).manifest
    assert left == [0]
    assert [row["text"] for row in kit.raw_rows(store, made)] == [record["text"] for record in records]
