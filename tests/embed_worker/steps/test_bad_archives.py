"""Damaged archives."""

import bz2
import gzip
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from embed_worker.lake.store import Store
from embed_worker.steps.raw import ingest
from tests.kits import pipelines as kit
from tests.kits.bad_sources import GOOD, refused


def _zstd(data: bytes) -> bytes:
    packed: bytes = pa.compress(data, "zstd", asbytes=True)
    return packed


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": _zstd,
}  # fmt: skip


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("damage", ["truncated", "flipped", "garbage"])
def test_a_damaged_archive_stops_the_ingest(tmp_path: Path, store: Store, lake: Path, suffix: str, damage: str) -> None:
    lines = b"".join(json.dumps({"text": f"line {i} {i * 7919 % 10007}"}).encode() + b"\n" for i in range(3000))
    packed = PACK[suffix](lines)
    middle = len(packed) // 2
    bad = {
        "truncated": packed[: -len(packed) // 3],
        "flipped": packed[:middle] + bytes(b ^ 0xFF for b in packed[middle : middle + 64]) + packed[middle + 64 :],
        "garbage": b"this is no archive at all, whatever its name says",
    }[damage]
    if (suffix, damage) == (".zst", "flipped"):
        pytest.skip("this packer writes no checksum, so nothing can show the change")
    source = tmp_path / f"s.jsonl{suffix}"
    source.write_bytes(bad)
    assert f"s.jsonl{suffix}" in refused(store, lake, source, "cut off, damaged or not")


@pytest.mark.parametrize("suffix", PACK)
def test_archives_of_several_frames_are_read_to_their_end(tmp_path: Path, store: Store, suffix: str) -> None:
    source = tmp_path / f"s.jsonl{suffix}"
    source.write_bytes(PACK[suffix](GOOD * 2) + PACK[suffix](GOOD * 3))
    assert ingest(store, kit.dataset(str(source))).manifest.rows == 5


def test_a_damaged_member_of_a_zip(tmp_path: Path, store: Store, lake: Path) -> None:
    path = tmp_path / "z.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jsonl", GOOD * 1000 + b"".join(b'{"text":"%d"}\n' % (i * 7919) for i in range(1000)))
    data = bytearray(path.read_bytes())
    data[200:260] = b"\x00" * 60
    path.write_bytes(bytes(data))
    refused(store, lake, f"zip://a.jsonl::file://{path}", "cannot be read|damaged")
