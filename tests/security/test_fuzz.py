"""Fuzzing the readers: whatever bytes they get, they give records or their documented error, nothing else."""

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from embed_assets.ingest.errors import SourceError
from embed_assets.ingest.records import Fault, read_records
from embed_assets.ingest.source import find_files
from embed_assets.spec import EmbeddingPipeline, SpecError, load_pipeline
from embed_worker.errors import BadJob
from embed_worker.job import load_job
from embed_worker.manifests import (
    BadManifest,
    Latest,
    RawManifest,
    ShardManifest,
    Space,
    StridesManifest,
    read_manifest,
)
from embed_worker.seal import sealed
from embed_worker.store import Store
from tests.chaos.record import record
from tests.platform import kit

CASES = int(os.environ.get("EMBED_CHAOS_FUZZ", "100"))
"""Cases a reader; `make chaos` asks for many more."""
fuzzed = settings(
    max_examples=CASES,
    deadline=None,
    derandomize="EMBED_CHAOS_FUZZ" not in os.environ,  # the short run is the same each time; the long one looks further
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# Larger integers have an example of their own below: our own writer, which seals some cases, knows 64 bits.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
SPEC = """name: p
datasets:
- {name: d, source: a.jsonl, text: "{text}", strides: 3}
embedding: {model: m, pooling: mean, attention: causal}
"""
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(12)
)


def mutated(text: str) -> st.SearchStrategy[bytes]:
    """A good file with a piece of it replaced by something else."""
    data = text.encode()
    piece = st.sampled_from([b"", b"\0", b"!!int ''", b"!!bool x", b"!!timestamp x", b"&a [*a]", b"<<: 1", b"{{", b"9" * 400,
                             b"1e999", b".nan", b"- ", b"\xff", b"[" * 60]) | st.binary(max_size=8)  # fmt: skip
    place = st.integers(0, len(data))
    return st.builds(lambda i, n, new: data[:i] + new + data[i + n :], place, st.integers(0, 20), piece)


@given(mutated(SPEC) | st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
@example(b"!!bool x")
@example(b"!!timestamp x")
@example(b"!!int ''")
@example(b"a: &a [*a]")
@example(BOMB.encode())
@example(b"[" * 5000)
@example(SPEC.replace("strides: 3", "strides: " + "9" * 5000).encode())
@example((SPEC + "description: !!python/object/apply:os.system ['true']\n").encode())
@fuzzed
def test_the_spec_reader(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(data)
    record(fuzz_cases=1)
    try:
        assert isinstance(load_pipeline(path), EmbeddingPipeline)
    except SpecError as error:
        assert str(path) in str(error)
        assert len(str(error)) < 10_000


@given(st.binary(max_size=80) | JSON.map(lambda value: sealed("m.json", {"format": 1, "x": value})))
@example(b"[" * 100_000)
@example(b'{"format": ' + b"9" * 100_000 + b"}")
@example(b'{"format": 1e999}')
@example(b'{"snapshot": "../../etc"}')
@example(b'{"digest": 7}')
@fuzzed
def test_the_manifest_and_job_readers(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "m.json"
    path.write_bytes(data)
    store = Store(str(tmp_path))
    for model in (Latest, RawManifest, StridesManifest, ShardManifest, Space):
        record(fuzz_cases=1)
        with contextlib.suppress(BadManifest):
            read_manifest(store, "m.json", model)
    with contextlib.suppress(BadJob):
        load_job(str(path))


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet"])
@given(
    data=st.binary(max_size=200)
    | st.lists(JSON.map(str) | st.text(max_size=20)).map(lambda x: "\n".join(x).encode("utf-8", "surrogatepass"))
)
@example(data=b'text,b\n"never closed')
@example(data=b'{"text": "\\ud800"}\n' + b"[" * 5000 + b"\n")
@example(data=b"\xff\xfe\x00")
@example(data=b'text\r\r"\0\r')
@example(data=b"PAR1" + b"\xff" * 40 + b"PAR1")
@fuzzed
def test_the_source_readers(tmp_path: Path, kind: str, data: bytes) -> None:
    path = tmp_path / f"s.{kind}"
    path.write_bytes(data)
    record(fuzz_cases=1)
    try:
        for found in read_records(find_files(kit.dataset(str(path)))[0]):
            assert isinstance(found, dict | Fault)
    except SourceError as error:
        assert str(path) in str(error)
