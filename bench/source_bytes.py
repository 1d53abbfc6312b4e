"""How many bytes of a source an ingest reads in this process."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from embed_worker.steps import source
from embed_worker.steps.resumed import Watched, opened


@contextmanager
def counted_bytes() -> Iterator[Counter[str]]:
    """`["bytes"]`, as they are stored."""
    read = Counter[str]()

    def count(size: int) -> None:
        read["bytes"] += size

    def opening(fs: Any, path: str) -> Watched:
        return Watched(opened(fs, path), count)

    with patch.object(source, "opened", opening):
        yield read
