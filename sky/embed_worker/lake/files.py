"""Files of the lake with their digests: how they are described, written, fetched and proved."""

import hashlib
import re
import shutil
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from embed_worker.lake import failpoints
from embed_worker.lake.errors import DamagedData
from embed_worker.lake.layout import own_name
from embed_worker.lake.store import Store

BLOCK = 1 << 20
NAMES = re.compile(r"[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*")


def _inside(value: str) -> str:
    if not NAMES.fullmatch(value) or {".", ".."} & set(value.split("/")):
        raise ValueError(f"{value[:80]!r} is not a path inside the lake")
    return value


LakePath = Annotated[str, AfterValidator(_inside)]
"""A relative path of plain names: no `..`, no leading `/`, no URL."""


class FileRef(BaseModel):
    """One file, as a manifest lists it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: LakePath
    """Relative to the manifest's folder."""
    rows: int = Field(ge=0)
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of_files(files: Iterable[FileRef], length: int = 16) -> str:
    """One digest over files in order, independent of where they lie."""
    return hashlib.sha256("".join(f.sha256 for f in files).encode()).hexdigest()[:length]


def describe(path: Path, name: str, rows: int) -> FileRef:
    return FileRef(path=name, rows=rows, bytes=path.stat().st_size, sha256=sha256_of(path))


def bring(store: Store, folder: str, file: FileRef, target: Path | None) -> tuple[Path | None, str | None]:
    """A file of the lake on this machine, and what is wrong with it; read once. Local files stay in place.

    Without a target folder it is proved only. No path where there is no file.
    """
    path = f"{folder}/{file.path}"
    local = Path(store.path(path)) if store.is_local else target and target / file.path.replace("/", "_")
    return store.again(lambda: _bring(store, path, file, local))


def _bring(store: Store, path: str, file: FileRef, local: Path | None) -> tuple[Path | None, str | None]:
    hasher, size = hashlib.sha256(), 0
    try:
        with (
            store.open(path) as source,
            local.open("wb") if local and not store.is_local else nullcontext() as sink,
        ):
            while block := source.read(BLOCK):
                hasher.update(block)
                size += len(block)
                if sink is not None:
                    sink.write(block)
    except (FileNotFoundError, IsADirectoryError):
        return None, f"{store.url(path)} is missing"
    fault = None
    if size != file.bytes:
        fault = f"{store.url(path)} has {size} bytes, its manifest says {file.bytes}"
    elif hasher.hexdigest() != file.sha256:
        fault = f"{store.url(path)} is not the file its manifest names: its sha256 differs"
    return local, fault


def fetch(store: Store, folder: str, file: FileRef, target: Path) -> Path:
    """Brings a file to this machine. Raises DamagedData with its URL where it is missing, cut or changed."""
    local, fault = bring(store, folder, file, target)
    if local is None or fault is not None:
        raise DamagedData(fault)
    return local


def fault_of(store: Store, folder: str, file: FileRef) -> str | None:
    """What is wrong with a file of the lake, or None where it is whole."""
    return bring(store, folder, file, None)[1]


def publish(store: Store, folder: str, local: Path, name: str, rows: int) -> FileRef:
    """Puts a Parquet file into a folder whose manifest is yet to come.

    One that is there already, of an attempt that died or of a twin, is adopted if it holds the same rows. Where the
    name is taken by other content, the file gets a name of its own: nothing is deleted here, since another attempt
    may commit what lies there at any moment.
    """
    path = f"{folder}/{name}"
    mine = describe(local, name, rows)
    if store.create_file(path, local) or fault_of(store, folder, mine) is None:
        return mine
    if (theirs := store.again(lambda: _adoptable(store, path, local, name, rows))) is not None:
        return theirs
    failpoints.reach("part.taken")
    mine = mine.model_copy(update={"path": own_name(name)})
    if not store.create_file(f"{folder}/{mine.path}", local) and (fault := fault_of(store, folder, mine)) is not None:
        raise DamagedData(fault)
    return mine


def _adoptable(store: Store, path: str, local: Path, name: str, rows: int) -> FileRef | None:
    """Describes the file at `path` if it holds the same table as `local`."""
    theirs = local.with_suffix(".theirs")
    try:
        with store.open(path) as source, theirs.open("wb") as sink:
            shutil.copyfileobj(source, sink, BLOCK)
        try:
            same = pq.read_table(theirs).equals(pq.read_table(local), check_metadata=True)
        except (pa.ArrowException, OSError):
            return None  # not a readable Parquet file: foreign, or damaged
        return describe(theirs, name, rows) if same else None
    except FileNotFoundError:
        return None  # gone meanwhile
    finally:
        theirs.unlink(missing_ok=True)
