"""Fuzzing the readers: whatever bytes they get, they give records or their documented error, nothing else.

`pytest --hypothesis-seed=N` makes a long run again. What it finds goes to `corpus/`, which every run replays.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from embed_assets.spec import SpecError, load_pipeline
from embed_worker.lake.errors import BadJobFile, BadManifest
from embed_worker.lake.job import load_job
from embed_worker.lake.manifests import ShardManifest, Space, StridesManifest, read_manifest
from embed_worker.lake.seal import sealed
from embed_worker.lake.snapshots import Pointer, RawManifest
from embed_worker.lake.store import Store
from embed_worker.steps.errors import SourceError
from embed_worker.steps.raw import ingest
from embed_worker.steps.records import Account, Fault, columns_of, read_rows
from embed_worker.steps.source import find_files
from tests.kits import pipelines as kit
from tests.kits.chaos.figures import record
from tests.kits.fuzz import (
    JSON,
    KINDS,
    PACKERS,
    SPEC,
    YAML_PIECES,
    corpus,
    dialects,
    fuzzed,
    kept,
    lake_jsons,
    mutated,
    sources,
    yamls,
)

pytestmark = pytest.mark.slow

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(12)
)


def read_spec(folder: Path, data: bytes) -> None:
    path = folder / "p.yaml"
    path.write_bytes(data)
    try:
        pipeline = load_pipeline(path)
    except SpecError as error:
        assert str(path) in str(error)
        assert len(str(error)) < 10_000
    else:  # what the definitions ask of it
        assert pipeline.embedding.spec_id and pipeline.model_dump_json()


def read_lake_json(folder: Path, data: bytes) -> None:
    path = folder / "m.json"
    path.write_bytes(data)
    store = Store(str(folder))
    for model in (Pointer, RawManifest, StridesManifest, ShardManifest, Space):
        with contextlib.suppress(BadManifest):
            found = read_manifest(store, "m.json", model)
            if isinstance(found, ShardManifest):
                assert found.data_version
            if isinstance(found, ShardManifest | Space) and found.canaries:
                with contextlib.suppress(ValueError):
                    found.canaries.worst_cosine(found.canaries)
    with contextlib.suppress(BadJobFile):
        job = load_job(str(path))
        for inner in (job.shard.folder, job.path, job.shard.manifest_path):
            assert store.path(inner).startswith(f"{folder}/")


def read_source(suffix: str) -> Callable[[Path, bytes], None]:
    def read(folder: Path, data: bytes) -> None:
        path = folder / f"s.{suffix}"
        path.write_bytes(data)
        try:
            file = find_files(kit.dataset(str(path)))[0]
            columns_of(file)
            account = Account()
            for found in read_rows(file, (), account):
                assert isinstance(found.record, dict | Fault)
            assert account.whole and account.total == account.accounted
        except SourceError as error:
            assert str(path) in str(error) and "\n" not in str(error)

    return read


def read_dialect(folder: Path, data: bytes) -> None:
    """A whole ingest: rows or one error, and every line accounted for."""
    keys, _, rest = data.partition(b"\n")
    path = folder / "s.csv"
    path.write_bytes(rest)
    try:
        spec = kit.dataset(str(path), **json.loads(keys))
    except ValidationError:
        return
    try:
        manifest = ingest(Store(str(folder / hashlib.sha256(data).hexdigest())), spec).manifest
    except SourceError as error:
        assert "\n" not in str(error) and len(str(error)) < 3000
        str(error).encode()
    else:
        assert all(one.total == one.accounted and one.whole for one in manifest.accounts)
        assert sum(one.records for one in manifest.accounts) == manifest.records


READERS = {
    "dialect": read_dialect,
    "spec": read_spec,
    "lake": read_lake_json,
    **{kind + packed: read_source(kind + packed) for kind in KINDS for packed in PACKERS},
}


def check(reader: str, folder: Path, data: bytes) -> None:
    record(fuzz_cases=1)
    with kept(reader, data):
        READERS[reader](folder, data)


@pytest.mark.parametrize("path", corpus(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_once_broke_a_reader(tmp_path: Path, path: Path) -> None:
    READERS[path.parent.name](tmp_path, path.read_bytes())


@given(mutated(SPEC.encode(), *YAML_PIECES) | yamls() | st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
@example(BOMB.encode())
@example(b"[" * 5000)
@example(SPEC.replace("strides: 3", "strides: " + "9" * 5000).encode())
@fuzzed
def test_the_spec_reader(tmp_path: Path, data: bytes) -> None:
    check("spec", tmp_path, data)


@given(
    lake_jsons()
    | lake_jsons().flatmap(mutated)
    | st.binary(max_size=80)
    | JSON.filter(lambda value: "\\ud8" not in ascii(value)).map(
        lambda value: sealed("m.json", {"format": 1, "x": value})
    )
)
@example(b"[" * 100_000)
@example(b'{"format": ' + b"9" * 100_000 + b"}")
@fuzzed
def test_the_manifest_and_job_readers(tmp_path: Path, data: bytes) -> None:
    check("lake", tmp_path, data)


@given(dialects())
@fuzzed
def test_the_readers_of_all_dialects(tmp_path: Path, data: bytes) -> None:
    check("dialect", tmp_path, data)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@fuzzed
def test_the_source_readers_on_damaged_files(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    packed, content = data.draw(sources(kind))
    check(kind + packed, tmp_path, content)


@pytest.mark.parametrize("kind", KINDS)
@given(
    data=st.binary(max_size=200)
    | st.lists(JSON.map(str) | st.text(max_size=20)).map(lambda x: "\n".join(x).encode("utf-8", "surrogatepass"))
)
@example(data=b'{"text": "\\ud800"}\n' + b"[" * 5000 + b"\n")
@fuzzed
def test_the_source_readers(tmp_path: Path, kind: str, data: bytes) -> None:
    check(kind, tmp_path, data)
