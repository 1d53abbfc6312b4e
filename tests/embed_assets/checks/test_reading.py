"""Each file of a partition is read once, whatever is checked."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from embed_assets.checks.outcome import run_checks
from embed_assets.checks.proof import prove
from embed_assets.checks.rows import ROW_CHECKS, RowsView
from embed_assets.checks.shard import SHARD_CHECKS, ShardView
from embed_worker.lake.store import Store
from tests.kits import pipelines as kit


class CountingStore(Store):
    """Counts what is read of each file."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.bytes_of: Counter[str] = Counter()

    @contextmanager
    def open(self, path: str, *, sparse: bool = False) -> Iterator[IO[bytes]]:
        with super().open(path, sparse=sparse) as file:
            yield _Counted(file, lambda count: self.bytes_of.update({path: count}))  # type: ignore[misc]


class _Counted:
    def __init__(self, file: Any, count: Any) -> None:
        self._file, self._count = file, count

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._file.read(size)
        self._count(len(data))
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_all_checks_of_a_shard_read_each_byte_once(tmp_path: Path, s3_root: str) -> None:
    texts = [{"text": "x"}, {"text": " "}, *kit.texts(40)]
    ready = kit.Prepared(s3_root, str(kit.write_jsonl(tmp_path / "s.jsonl", texts)), strides=2)
    manifest = ready.embed(0)
    store = CountingStore(s3_root)
    proof = prove(ShardView(store, manifest.shard, manifest, ready.expected(0)), SHARD_CHECKS)
    assert proof.fault is None and all(outcome.passed for outcome in proof.checks.values()), proof
    want = {f"{manifest.shard.folder}/{file.path}": file.bytes for file in manifest.listed}
    assert {path: count for path, count in store.bytes_of.items() if path in want} == want


def test_all_checks_of_a_snapshot_read_each_byte_once(tmp_path: Path, s3_root: str) -> None:
    ready = kit.Prepared(s3_root, str(kit.write_jsonl(tmp_path / "s.jsonl", kit.texts(40))), strides=2)
    store, raw = CountingStore(s3_root), ready.raw
    view = RowsView(store, raw)
    assert all(outcome.passed for outcome in run_checks(ROW_CHECKS, ROW_CHECKS, view).values())
    assert store.bytes_of == {f"{raw.folder}/{file.path}": file.bytes for file in raw.listed}
