"""Files that other people's folders hold, and how they are packed. Each test names its kind."""

import bz2
import gzip
import lzma
import os
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest

from embed_worker.lake.store import Store
from embed_worker.steps.raw import ingest
from embed_worker.steps.source import find
from embed_worker.steps.spec import SourceSpec
from tests.kits import pipelines as kit
from tests.kits.bad_sources import refused

CSV = b"rid,body\nR1,first\nR2,second\n"


def texts(store: Store, source: Any, **changes: Any) -> list[str]:
    manifest = ingest(store, kit.dataset(source, **{"text": "{body}", "max_rejects": 0, **changes})).manifest
    return [row["text"] for row in kit.raw_rows(store, manifest, ["text"])]


# Kind: what other programs leave beside the data, which a pattern finds too.


@pytest.mark.parametrize(
    ("left", "pattern"),
    [
        ("data/.ipynb_checkpoints/reviews-checkpoint.csv", "data/**/*.csv"),
        ("data/._reviews.csv", "data/*.csv"),
        ("data/.~lock.reviews.csv", "data/*csv"),
        ("data/__MACOSX/reviews.csv", "data/**/*.csv"),
        ("data/_temporary/0/part-0.csv", "**/*.csv"),
        ("data/.git/x.csv", "data/**"),
        ("data/~$reviews.csv", "data/*.csv"),
        ("data/.hidden.csv", "dat?/*.csv"),
    ],
)
def test_hidden_files_are_no_data_unless_named(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, left: str, pattern: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("data/reviews.csv", left):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(CSV if name != left else CSV.replace(b"R", b"C"))
    if pattern == "data/**":
        pattern = "data/**/*.csv"
    assert texts(store, pattern) == ["first", "second"]
    manifest = ingest(store, kit.dataset(pattern, text="{body}")).manifest
    assert any(Path(left).name in warning for warning in manifest.warnings) or Path(left).name.startswith(".")
    assert len(texts(store, left)) == 2


def test_include_hidden_reads_them(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / ".cache" / "_data"
    (home / ".old").mkdir(parents=True)
    (home / "a.csv").write_bytes(CSV)
    (home / ".old" / "b.csv").write_bytes(CSV.replace(b"first", b"older"))
    monkeypatch.chdir(tmp_path)
    assert texts(store, f"{home}/**/*.csv") == ["first", "second"]
    assert texts(store, ".cache/_data/*.csv") == ["first", "second"]
    assert texts(store, f"{home}/.old/*.csv") == ["older", "second"]
    assert texts(store, f"{home}/.o*/*.csv") == ["older", "second"]


def test_files_that_are_found_twice(tmp_path: Path, store: Store, lake: Path) -> None:
    (tmp_path / "a.csv").write_bytes(CSV)
    refused(store, lake, [str(tmp_path / "a.csv"), str(tmp_path / "*.csv")], "found twice", text="{body}")
    (tmp_path / "b.csv").symlink_to(tmp_path / "a.csv")
    refused(store, lake, tmp_path / "*.csv", "found twice", text="{body}")
    (tmp_path / "b.csv").unlink()
    (tmp_path / "b.csv").write_bytes(CSV)
    manifest = ingest(store, kit.dataset(str(tmp_path / "*.csv"), text="{body}")).manifest
    assert manifest.warnings[0].endswith(f"the same bytes as file://{tmp_path}/a.csv: its rows are there twice")


@pytest.mark.parametrize("pattern", ["*.jsonl", "dead.jsonl"])
def test_a_dead_link_is_named(tmp_path: Path, store: Store, lake: Path, pattern: str) -> None:
    (tmp_path / "real.jsonl").write_bytes(b'{"text": "one"}\n')
    (tmp_path / "dead.jsonl").symlink_to("gone.jsonl")
    told = refused(store, lake, tmp_path / pattern, "dead.jsonl is a link to gone.jsonl")
    assert "real" not in told


# Kind: bytes that are packed otherwise than their name says.

PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress,
    "zstd": lambda data: pa.compress(data, "zstd", asbytes=True),
    "lz4": lambda data: pa.compress(data, "lz4", asbytes=True),
}  # fmt: skip


@pytest.mark.parametrize("kind", PACK)
def test_packed_files_without_their_suffix(tmp_path: Path, store: Store, lake: Path, kind: str) -> None:
    (tmp_path / "r.csv").write_bytes(PACK[kind](CSV))
    assert texts(store, str(tmp_path / "r.csv")) == ["first", "second"]
    (tmp_path / "r.csv").write_bytes(PACK[kind](CSV) + PACK[kind](CSV.split(b"\n", 1)[1]))
    assert texts(store, str(tmp_path / "r.csv")) == ["first", "second"] * 2
    refused(Store(f"{lake}2"), Path(f"{lake}2"), tmp_path / "r.csv", "packed twice or read with", compression="none")
    (tmp_path / "r.csv.gz").write_bytes(gzip.compress(PACK[kind](CSV)))
    refused(Store(f"{lake}2"), Path(f"{lake}2"), tmp_path / "r.csv.gz", "packed twice or read with", text="{body}")


def test_a_name_that_says_packed_where_nothing_is(tmp_path: Path, store: Store, lake: Path) -> None:
    (tmp_path / "r.csv.gz").write_bytes(CSV)
    refused(store, lake, tmp_path / "r.csv.gz", "compression: none", text="{body}")
    assert texts(store, str(tmp_path / "r.csv.gz"), compression="none") == ["first", "second"]
    refused(Store(f"{lake}2"), Path(f"{lake}2"), tmp_path / "r.csv.gz", "is not zstd", compression="zstd")


@pytest.mark.parametrize("suffix", [".tgz", ".tar.gz", ".tar", ".tar.xz"])
def test_files_in_tar_archives(tmp_path: Path, store: Store, lake: Path, suffix: str) -> None:
    (tmp_path / "in.csv").write_bytes(CSV)
    mode = {".tgz": "w:gz", ".tar.gz": "w:gz", ".tar": "w", ".tar.xz": "w:xz"}[suffix]
    with tarfile.open(tmp_path / f"a{suffix}", mode) as archive:  # type: ignore[call-overload]
        archive.add(tmp_path / "in.csv", "in.csv")
    assert texts(store, f"tar://in.csv::{tmp_path}/a{suffix}") == ["first", "second"]
    refused(Store(f"{lake}2"), Path(f"{lake}2"), tmp_path / f"a{suffix}", "tar://FILE::")


def zstd_frame(data: bytes, window_log: int) -> bytes:
    """One frame with a raw block, whose header asks for a window."""
    header = b"\x28\xb5\x2f\xfd\x00" + bytes([(window_log - 10) << 3])
    return header + (1 | len(data) << 3).to_bytes(3, "little") + data


@pytest.mark.parametrize("log", [28, 30, 31])
def test_zstd_with_a_long_window(tmp_path: Path, store: Store, lake: Path, log: int) -> None:
    (tmp_path / "r.zst").write_bytes(zstd_frame(CSV, log))
    told = refused(store, lake, tmp_path / "r.zst", f"--long={log}", format="csv", text="{body}")
    assert f"decompression_window: {1 << log}" in told and "damaged" not in told
    keys: dict[str, Any] = {"format": "csv", "decompression_window": 1 << log}
    assert texts(store, str(tmp_path / "r.zst"), **keys) == ["first", "second"]


def test_without_its_extra_a_long_window_names_it(
    tmp_path: Path, store: Store, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "r.zst").write_bytes(zstd_frame(CSV, 31))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    refused(store, lake, tmp_path / "r.zst", r"\[zstd\]", format="csv", decompression_window=1 << 31)


def test_zstd_with_the_usual_window_needs_nothing(tmp_path: Path, store: Store) -> None:
    (tmp_path / "r.csv.zst").write_bytes(zstd_frame(CSV, 27))
    assert texts(store, str(tmp_path / "r.csv.zst")) == ["first", "second"]


# Kind: a source that can change under its name.


@pytest.mark.parametrize(
    ("name", "told"), [("a/b", True), ("a/b@0123abc", False), ("a/b@refs%2Fconvert%2Fparquet", False)]
)
def test_a_hub_dataset_without_a_revision_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, told: bool
) -> None:
    local = (fsspec.filesystem("file"), [str(tmp_path / "x.jsonl")])
    monkeypatch.setattr("embed_worker.steps.source._matches", lambda *_: local)
    found = find(SourceSpec(name="d", source=f"hf://datasets/{name}/x.jsonl", text="{text}"))
    assert [("names no revision" in warning) for warning in found.warnings] == [True] * told


def test_a_folder_or_a_file_that_cannot_be_read(tmp_path: Path, store: Store, lake: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    refused(store, lake, tmp_path / "pipe.csv", "no such file")
