"""A lake whose bytes are counted as they come from it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

from embed_worker.lake.store import Store


class Wire:
    """Passes all on to the store. Only whole files and ranges are to be read: a library may read ahead of who reads a
    part."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._spaces: dict[str, bytes] = {}
        self.bytes = 0

    def as_store(self) -> Store:
        return cast(Store, self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def read(self, path: str) -> bytes:
        if path in self._spaces:
            return self._spaces[path]
        data = self._store.read(path)
        self.bytes += len(data)
        if path.startswith("embedding_spaces/"):  # all shards of a spec are held against it
            self._spaces[path] = data
        return data

    def read_json(self, path: str) -> Any:
        return Store.read_json(self.as_store(), path)

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        data = self._store.read_range(path, offset, length)
        self.bytes += len(data)
        return data

    @contextmanager
    def open(self, path: str, *, sparse: bool = False) -> Iterator[IO[bytes]]:
        with self._store.open(path, sparse=sparse) as source:
            yield cast(IO[bytes], _Counted(self, source))


class _Counted:
    def __init__(self, wire: Wire, source: IO[bytes]) -> None:
        self._wire, self._source = wire, source

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._wire.bytes += len(data)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)
