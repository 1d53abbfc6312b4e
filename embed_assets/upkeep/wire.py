"""A lake whose bytes are counted as they come from it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, cast

from embed_worker.lake.store import Store


class Wire:
    """Passes all on to the store. Only whole files are to be read: a library may read ahead of who reads a part."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: dict[str, Path] | None = None
        self._scratch: Path | None = None
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

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """In it, a file that is opened again is read from this machine."""
        with self._store.scratch() as self._scratch:
            self._kept = {}
            try:
                yield
            finally:
                self._kept = self._scratch = None

    @contextmanager
    def open(self, path: str, *, sparse: bool = False) -> Iterator[IO[bytes]]:
        if self._kept is not None and path in self._kept:
            with self._kept[path].open("rb") as file:
                yield file
            return
        with self._store.open(path, sparse=sparse) as source, ExitStack() as stack:
            copy: IO[bytes] | None = None
            if self._kept is not None:
                self._kept[path] = self._copy_of(path)
                if not self._store.is_local:
                    copy = stack.enter_context(self._kept[path].open("wb"))
            yield cast(IO[bytes], _Counted(self, source, copy))

    def _copy_of(self, path: str) -> Path:
        assert self._kept is not None and self._scratch is not None
        return Path(self._store.path(path)) if self._store.is_local else self._scratch / f"{len(self._kept)}"


class _Counted:
    def __init__(self, wire: Wire, source: IO[bytes], copy: IO[bytes] | None) -> None:
        self._wire, self._source, self._copy = wire, source, copy

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._wire.bytes += len(data)
        if self._copy is not None:
            self._copy.write(data)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)
