"""What the commit protocol needs of a store, of Google's and Azure's."""

from pathlib import Path

import pytest

from embed_worker.lake.store import Store
from tests.kits.lake.store_suite import StoreSuite, race

pytestmark = pytest.mark.clouds


class TestClouds(StoreSuite):
    @pytest.fixture
    def root(self, root: str) -> str:  # type: ignore[override]
        return root

    def test_large_files_are_create_only_too(self, store: Store, tmp_path: Path) -> None:
        """gcsfs and adlfs send them in pieces."""
        for number in range(4):
            (tmp_path / str(number)).write_bytes(bytes([65 + number]) * 12_000_000)
        winners = race(4, lambda n: Store(store.root).create_file("race/large", tmp_path / str(n)))
        assert len(winners) == 1
        assert Store(store.root).read("race/large") == (tmp_path / str(winners[0])).read_bytes()

    def test_a_range_is_read(self, store: Store) -> None:
        store.create("a", b"0123456789")
        assert store.read_range("a", 2, 3) == b"234" and store.read_range("a", 8, 5) == b"89"
        assert store.read_range("a", 10, 5) == b""
