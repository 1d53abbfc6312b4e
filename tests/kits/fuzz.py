"""What the fuzzing of the readers shares: good files, what becomes of them, and a corpus of what once broke a reader."""

import bz2
import contextlib
import csv
import gzip
import io
import json
import lzma
import os
import re
import tempfile
import traceback
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from embed_worker.lake.seal import KEY, sealed
from tests.kits import LONG, ROOT
from tests.kits import pipelines as kit
from tests.kits.pipelines import Prepared

CASES = int(os.environ.get("EMBED_CHAOS_FUZZ", "100"))
"""Cases a reader; `make chaos` asks for many more."""
CORPUS = ROOT / "tests/security/corpus"
fuzzed = settings(
    max_examples=CASES,
    deadline=None,
    derandomize=not LONG,  # the short run is the same each time; the long one looks further
    database=None,
    suppress_health_check=list(HealthCheck),
)


@contextlib.contextmanager
def kept(reader: str, data: bytes) -> Iterator[None]:
    """A long run leaves what broke a reader in the corpus; Hypothesis comes to the smallest such input last."""
    try:
        yield
    except Exception as error:
        if LONG:
            where = traceback.extract_tb(error.__traceback__)[-1]
            name = f"{type(error).__name__}-{Path(where.filename).stem}-{re.sub(r'[^a-z_]', '', where.name)}"
            folder = CORPUS / reader
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        raise


def corpus() -> list[Path]:
    """Inputs that broke a reader once, each in a folder of its reader's name."""
    return sorted(path for path in CORPUS.glob("*/*") if path.is_file())


# -- values ------------------------------------------------------------------------------------------------------

WORDS = st.text(max_size=20) | st.sampled_from(
    ["..", "/etc/passwd", "a/../../b", "s3://x", "", ".", "\ud800", "\0", "{x}", "{", "0" * 64, "1e999", "9" * 400]
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)  # our own writer, which seals some cases, knows 64 bits
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def changed(draw: st.DrawFn, value: Any) -> Any:
    """A tree of JSON with one to three of its places replaced, removed, doubled, or filled from another place."""
    tree = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(tree))
        holder, key = draw(st.sampled_from(places))
        action = draw(st.sampled_from(["replace", "replace", "number", "remove", "add", "copy"]))
        if action == "remove":
            del holder[key]
        elif action == "add" and isinstance(holder, dict):
            holder[draw(st.text(max_size=12))] = draw(JSON)
        elif action == "copy":
            other, name = draw(st.sampled_from(places))
            holder[key] = json.loads(json.dumps(other[name])) if _has(other, name) else None
        elif action == "number":
            holder[key] = draw(st.integers(-3, 3) | st.sampled_from([2**31, 2**63, -(2**63), 0.5, 1e300]))
        else:
            holder[key] = draw(JSON)
        if not list(_places(tree)):
            break
    return tree


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield tree, key
        yield from _places(tree[key])


def _has(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else key < len(holder)


def mutated(data: bytes, *pieces: bytes) -> st.SearchStrategy[bytes]:
    """A good file with a piece of it replaced by something else."""
    piece = st.binary(max_size=8)
    if pieces:
        piece = st.sampled_from(pieces) | piece
    place = st.integers(0, len(data))
    return st.builds(lambda i, n, new: data[:i] + new + data[i + n :], place, st.integers(0, 20), piece)


# -- good files --------------------------------------------------------------------------------------------------


@cache
def lake_files() -> dict[str, dict[str, Any]]:
    """A manifest of each kind without its seal, and a job."""
    with tempfile.TemporaryDirectory() as folder:
        source = kit.write_jsonl(Path(folder) / "a.jsonl", [*kit.texts(9), {"key": "x", "text": ""}])
        made = Prepared(Path(folder) / "lake", str(source))
        made.embed(0)
        job = made.job(0)
        made.resource.write_job(job)
        found = {}
        for path in sorted((Path(folder) / "lake").rglob("*.json")):
            if "progress" not in path.parts:
                found[str(path.relative_to(folder))] = json.loads(path.read_bytes())
        for value in found.values():
            value.pop(KEY, None)
        return found


@st.composite
def lake_jsons(draw: st.DrawFn) -> bytes:
    """A manifest or job with other values in it, with a seal that fits or without one."""
    tree = draw(st.sampled_from(sorted(lake_files())).flatmap(lambda name: changed(lake_files()[name])))
    try:
        return sealed("m.json", tree) if draw(st.booleans()) else json.dumps(tree).encode()
    except TypeError:  # a lone surrogate: the writer refuses it, JSON's escapes do not
        return json.dumps(tree).encode()


SPEC = """name: p
datasets:
- {name: d, source: a.jsonl, text: "{text}", strides: 3}
embedding: {model: m, pooling: mean, attention: causal}
"""
FULL_SPEC = """name: p
description: d
owners: ["team:a", a@b.com]
datasets:
- {name: d, source: [a.jsonl, "zip://b.csv::c.zip"], format: csv, compression: gzip, where: {a: [1, x], b: true},
   text: "{title} {text}", id: "{key}", rows: {start: 1, end: 9}, strides: 3, partitioning: contiguous,
   max_text_bytes: 9, storage_options: {anon: true}}
embedding: {model: m, location: /m, revision: r, sha256: {a: %s}, pooling: mean, attention: causal, normalize: true,
  dtype: float32, output_dtype: float16, dimensions: 8, max_tokens: 64, long_texts: window, overlap: 8,
  append_token: x, prompts: {document: "d: ", query: "q: "}, trust_remote_code: false, hf_overrides: {a: 1},
  references: [{text: x, vector: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]}], engine: {a: 1}}
checkpoint_rows: 4
budget_usd: 1.5
plan: {rows: 9, tokens_per_row: 2.5, tokenizer: t, parameters: 9, dimension: 8, tokens_per_second: {L4: 1},
  usd_per_hour: {L4: {spot: 0.1, on_demand: 1}}, start_seconds: 1, load_seconds: 1}
""" % ("0" * 64)  # fmt: skip
YAML_PIECES = (
    b"", b"\0", b"!!int ''", b"!!bool x", b"!!timestamp x", b"!!set {a}", b"!!omap [a: 1]", b"!!binary x", b"&a [*a]",
    b"<<: 1", b"<<: [*a]", b"{{", b"9" * 400, b"1e999", b".nan", b"- ", b"\xff", b"[" * 60, b'"\\ud800"', b"? [a]: ",
    b"0x", b"1:2:3", b"2020-13-40", b"...\n---\n", b"%YAML 9\n---\n",
)  # fmt: skip


@st.composite
def yamls(draw: st.DrawFn) -> bytes:
    """A pipeline with other values in it."""
    tree = draw(changed(yaml.safe_load(FULL_SPEC)))
    return yaml.safe_dump(tree, allow_unicode=draw(st.booleans())).encode("utf-8", "surrogatepass")


PACKERS = {"": bytes, ".gz": lambda data: gzip.compress(data, mtime=0), ".bz2": bz2.compress, ".xz": lzma.compress,
           ".zst": lambda data: pa.compress(data, "zstd", asbytes=True)}  # fmt: skip
KINDS = ("jsonl", "json", "csv", "tsv", "parquet")


@cache
def source_file(kind: str, packed: str) -> bytes:
    records = [*kit.texts(6), {"key": "ä\u2028", "text": 'a "b"\n,\t', "n": -1}]
    if kind == "parquet":
        sink = io.BytesIO()
        table = pa.Table.from_pylist([{**r, "at": pa.scalar(i, pa.timestamp("ns"))} for i, r in enumerate(records)])
        pq.write_table(table, sink, row_group_size=3)
        data = sink.getvalue()
    elif kind == "json":
        data = json.dumps(records, ensure_ascii=False, indent=1).encode()
    elif kind == "jsonl":
        data = b"".join(json.dumps(r, ensure_ascii=False).encode() + b"\n" for r in records)
    else:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(records[0]), delimiter="\t" if kind == "tsv" else ",")
        writer.writeheader()
        writer.writerows(records)
        data = text.getvalue().encode()
    return PACKERS[packed](data)


SOURCE_PIECES = (
    b"",
    b"\0",
    b'"',
    b"\r",
    b"\xff",
    b"\\ud800",
    b"9" * 400,
    b"[" * 60,
    b"\n\n",
    b"\xef\xbb\xbf",
    b"1e999",
)


DIALECTS = st.fixed_dictionaries(
    {},
    optional={
        "delimiter": st.sampled_from([";", "\t", "|", "::", " "]),
        "quote": st.sampled_from(["none", "'", "|", '"']),
        "escape": st.sampled_from(["none", "\\", "c-style", "^"]),
        "header": st.sampled_from(["none", 1, 2, 9]),
        "encoding": st.sampled_from(["cp1252", "utf-16", "utf-16-le", "utf-32", "gb18030", "utf-7", "ascii", "cp037"]),
        "null_values": st.sampled_from([["NA"], ["", "k1"]]),
        "skip_blank_after_delimiter": st.booleans(),
        "columns": st.sampled_from(
            [["key"], {"n": "int", "key": "bool"}, ["a", "b", "c"], {"n": "float", "text": "string"}]
        ),
    },
)


@st.composite
def dialects(draw: st.DrawFn) -> bytes:
    """A line with the keys of a dialect, and a file of CSV with a piece of it replaced."""
    kind = draw(st.sampled_from(["csv", "tsv"]))
    data = source_file(kind, "")
    for _ in range(draw(st.integers(1, 3))):
        data = draw(mutated(data, *SOURCE_PIECES, b'"', b'""', b"\\", b";", b"\t", b"\n"))
    return json.dumps(draw(DIALECTS)).encode() + b"\n" + data


@st.composite
def sources(draw: st.DrawFn, kind: str) -> tuple[str, bytes]:
    """The compression's suffix, and a source file with a piece of it replaced, before or after it is packed."""
    packed = draw(st.sampled_from(sorted(PACKERS)))
    if draw(st.booleans()):
        return packed, draw(mutated(source_file(kind, packed), *SOURCE_PIECES))
    return packed, PACKERS[packed](draw(mutated(source_file(kind, ""), *SOURCE_PIECES)))
