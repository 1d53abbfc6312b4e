"""Lines of CSV and TSV read fast: what the record reader gives, whatever the fields are."""

from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embed_assets.spec import DatasetSpec
from embed_worker.steps.fast import separated
from embed_worker.steps.fast.block import Block
from embed_worker.steps.readers.base import Account
from embed_worker.steps.readers.separated import Opening, Separated
from tests.kits import LONG
from tests.kits import pipelines as kit
from tests.kits.blocks import carefully, quickly

steady = settings(
    derandomize=not LONG, deadline=None, database=None, max_examples=2000 if LONG else 200,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
FIELDS = st.sampled_from(
    [
        "a",
        "b",
        "",
        " ",
        "née 😀",
        "1",
        "5.0",
        "007",
        "NA",
        "true",
        "x\ry",
        "\x1c",
        "\x00",
        " blank ",
        "\\N",
        "\\",
        "a;b",
        "\t",
    ]
)
QUOTES = st.sampled_from(['"', 'a"b', '"a"', "\x85", "'"])
QUOTED = st.sampled_from(
    ['"a"', '""', '"a;b,c\td"', '"say ""so"""', '""""', '"x\ny"', '"\r\n"', '" "', '"1"', '"a\n""\nb"', '"NA"']
)
HEADERS = st.sampled_from(
    [["text", "key", "n"], ["key", "text", "n", "id"], ["n", "key", "source_id", "text"], ["text", "key", "n", ""]]
)
ENDS = st.sampled_from(["\n", "\n", "\n", "\r\n", "\n\n", "\n\r\n"])
SPECS: list[dict[str, Any]] = [
    {},
    {"id": "{key}"},
    {"id": "{key}-{n}", "text": "{key}\\n{text}", "null_values": ["NA", "b"]},
    {"where": {"n": [1, "a", True, 5]}, "quote": "none"},
    {"text": "{text}", "where": {"key": ["a", 7], "n": ["b", "1"]}, "id": "{n}", "null_values": [""]},
    {"max_text_bytes": 2, "columns": ["n", "never"]},
    {"columns": {"n": "int", "key": "bool", "id": "string"}},
    {"delimiter": ";", "escape": "\\", "quote": "'"},
    {"escape": "c-style"},
]  # fmt: skip


@st.composite
def files(draw: st.DrawFn) -> tuple[bytes, dict[str, Any]]:
    spec = {**draw(st.sampled_from(SPECS)), "format": draw(st.sampled_from(["csv", "tsv"]))}
    delimiter = spec.get("delimiter", "," if spec["format"] == "csv" else "\t")
    quote = draw(st.sampled_from([QUOTES, QUOTED, QUOTED, None]))
    fields = FIELDS | quote if quote is not None else FIELDS
    names = draw(HEADERS)
    rows = draw(
        st.lists(st.lists(fields, min_size=len(names), max_size=len(names)) | st.lists(fields, max_size=5), max_size=7)
    )
    text = delimiter.join(names) + draw(ENDS)
    for row in [["t"] * len(names), *rows]:
        text += delimiter.join(row) + draw(ENDS)
    if draw(st.booleans()):
        text = text.rstrip("\n")
    data = text.encode()
    if draw(st.integers(0, 20)) == 0:
        data += b"\xff,\xff\n"
    return data, spec


def read(data: bytes, spec: dict[str, Any], *, proved: bool = True) -> tuple[Block | None, int]:
    """The block behind the first lines of a file, and how many those are."""
    dataset = kit.dataset(f"x.{spec['format']}", **spec)
    opening, account, body = opened(data, dataset)
    assert separated.reads(opening, dataset)
    block = separated.read(body, replace(opening, proved=opening.proved or proved), dataset)
    if block is not None:
        block.account.total += account.total
        block.account.accounted += account.accounted
        for what, count in account.notes.items():
            block.account.note(what, count)
    return block, account.total


def opened(data: bytes, dataset: DatasetSpec) -> tuple[Opening, Account, bytes]:
    """What the header says, and the lines behind it."""
    delimiter = dataset.delimiter or ("\t" if dataset.format == "tsv" else ",")
    reader, account = Separated(data, BytesIO(), "x", dataset, delimiter), Account()
    reader.open(["text"], account)
    assert reader.opening is not None
    return reader.opening, account, data.split(b"\n", account.total)[account.total]


@given(files())
@steady
def test_rows_are_what_the_record_reader_gives(file: tuple[bytes, dict[str, Any]]) -> None:
    data, spec = file
    careful = carefully(data, f"x.{spec['format']}", **spec)
    block, lines = read(data, spec)
    if block is None:
        assert any(mark in data for mark in (b'"', b"'", b"\\", b"\xff"))
    elif isinstance(careful, str):
        assert block.own.num_rows == 0, careful
    else:
        quick = quickly(block, **spec)
        for one in quick["rejects"]:
            one["line"] += lines
        for part, expected in careful.items():
            assert quick[part] == expected, (part, quick[part], expected)


def test_what_only_the_record_reader_can_tell_is_left_to_it() -> None:
    for data, spec in (
        (b'text\na"a"\n', {"format": "csv"}),
        (b'text\n"a"b\n', {"format": "csv"}),
        (b'text,n\n"a\nb"\n', {"format": "csv"}),
        (b'text\n"a\n', {"format": "csv"}),
        (b'text\tn\n"a"\tb\n', {"format": "tsv"}),
        (b"text,n\na\\,b,c\n", {"format": "csv", "escape": "\\"}),
        (b"text\n\xff\n", {"format": "csv"}),
    ):
        assert read(data, spec)[0] is None
    assert read(b'text\n"a"\n', {"format": "csv"}, proved=False)[0] is None
    assert read(b'text\n"a"\n', {"format": "csv"})[0] is not None
    assert read(b'text\tn\n"a"\tb\n', {"format": "tsv", "quote": "none"})[0] is not None


@pytest.mark.parametrize("changes", [{"delimiter": "::"}, {"skip_blank_after_delimiter": True}])
def test_files_that_are_not_read_in_blocks(changes: dict[str, Any]) -> None:
    dataset = kit.dataset("x.csv", **changes)
    assert not separated.reads(opened(b"text\na\n", dataset)[0], dataset)
