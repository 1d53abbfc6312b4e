"""Blocks of JSON Lines read fast: what the record reader gives, whatever the lines are."""

import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bench.ingest.data import tables
from embed_worker.steps.fast import flat, jsonl
from tests.kits import LONG
from tests.kits import pipelines as kit
from tests.kits.blocks import same

steady = settings(
    derandomize=not LONG,
    deadline=None,
    database=None,
    max_examples=2000 if LONG else 250,
    suppress_health_check=list(HealthCheck),
)
PLAIN = [
    '"a"', '"b"', '""', '" "', '"née"', '"\\u00e9\\n"', '"\\ud83d\\ude00 😀"', '"say \\"hi\\": {[,"', '"back\\\\"', "1", "2", "-7", "5.0",
    "1.10", "0.00001", '{"a":1}', '[1,"b",{"text":"}"}]', '[{"k": "v\\u00e9"}, null]', '{"a":{"b":[]}}', '[ ]', "true", "false", "null", "[]", "{}", "1588687728923", "1460323737035677698", "0.1234567890123456", "-0.30000000000000004",
]  # fmt: skip
ODD = [
    "1e3", "1E-7", "-0", "-0.0", "9223372036854775807", "9223372036854775808", "101463350189962023774", "0.1234567890123456789",
    "1e999", "NaN", "-Infinity", "007", "1.", "2.-", "1.5-7", "+1", "'a'", '"\\ud800"', '"\\ude00\\ud83d"', '"\\\\ud83d\\ude00"', '"\\u0000"', '"\t"', '"\x1f"',
    "\"\\x\"", '"open', '{"a":1}', '{"a": 1.10, "a": 2}', "[1, 2.0]", '[{"k":"v"}]', "[ ]", "[[]]", '[1.5]', '{"a":1,"a":2}', '{"a":[1,2}', '[-0]', '{"b":1e2}', '{"a" :1,"b":2,"b":3}', '[12345678901234567890]', '{"\\u0061":1,"a":2}', '["\\u0022:",{"a":1,"a":2}]', '{"k":[{"text":"x","key":[]}],"n":{}}', "\xa0", "", '"\\u2028"', '" "', '"\\u001c"',
    "tru", "nul", "12345678901234567890.5", "1234567890123456", "12345678901234.5", '"x" ', " 3 ", '"e\\u0301"', "{}{}", "[],", "1,,", '"a":1',
]  # fmt: skip
VALUES = st.sampled_from(PLAIN) | st.sampled_from(PLAIN) | st.sampled_from(ODD) | st.text(max_size=4).map(json.dumps)
KEYS = st.sampled_from(
    [
        "text",
        "key",
        "n",
        "x",
        "y",
        "text",
        "key",
        "source_id",
        "id",
        "",
        "é",
        "a b",
        "t\\u0065xt",
        "\\\\",
        '\\"q',
        "longer_than_eight",
        "longer_than_eighteen",
    ]
)
LOOSE = st.lists(st.tuples(KEYS, VALUES), max_size=5)
FIXED = st.tuples(*[st.sampled_from(PLAIN)] * 3).map(
    lambda values: list(zip(["key", "text", "n"], values, strict=True))
)
ROW = FIXED | FIXED | LOOSE
STYLE = st.sampled_from(
    [
        ("{%s}", ",", ":"),
        ("{%s}", ", ", ": "),
        ("{%s}\r", ",", ":"),
        ("{ %s }", " , ", " : "),
        (" {%s}\t", ",", ":\t"),
        ("{%s} x", ",", ":"),
        ("\x1e{%s}", ",", ":"),
    ]
)
ENDS = st.sampled_from(["\n", "\n", "\n", "\n\n", "\r\n", "\n \t\n", "\n\x0b\n"])
SPECS: list[dict[str, Any]] = [
    {},
    {"id": "{key}"},
    {"id": "{key}-{n}", "text": "{key}\\n{text}"},
    {"text": "{text}", "where": {"n": [1, "a", True, 5]}},
    {"text": "{x} {y}", "where": {"key": "a", "n": [2, 5]}, "id": "{text}{n}"},
    {"max_text_bytes": 2, "columns": ["n", "x", "never"]},
    {"columns": {"n": "int", "x": "string", "y": "float", "key": "bool"}},
    {"columns": {"n": "float", "x": "int", "y": "string", "text": "string", "key": "skip"}},
    {"json_numbers": "float", "id": "{id}{key}"},
]  # fmt: skip


def line(row: list[tuple[str, str]], style: tuple[str, str, str]) -> str:
    return style[0].replace("%s", style[1].join(f'"{name}"{style[2]}{value}' for name, value in row))


@st.composite
def files(draw: st.DrawFn) -> bytes:
    style, rows = draw(STYLE), draw(st.lists(ROW, max_size=8))
    mixed = draw(st.booleans())
    text = '{"text":"t","key":"first","n":0}\n'
    for row in rows:
        text += line(row, draw(STYLE) if mixed else style) + draw(ENDS)
    if draw(st.booleans()):
        text = text.rstrip("\n")
    data = text.encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 20)) == 0:
        at = draw(st.integers(0, len(data)))
        data = (
            data[:at]
            + draw(st.sampled_from([b"\xff", b"\x00", b'"', b"\\", b"{", b"\xc3", b"\xed\xa0\x80"]))
            + data[at:]
        )
    return data + b"\n" * draw(st.sampled_from([0, flat.MAX_KEY]))


@given(files(), st.sampled_from(SPECS))
@example(b'{"text":"a","text":null,"n":1}\n{"key":"b"}\n' + b"\n" * 64, {})
@example(b'{"text":"a"}\n{"text":"b"}{"text":"c"}\n' + b"\n" * 64, {})
@example(b'{"text":"a"}\n{"n":{}\n,"text":"c"}\n' + b"\n" * 64, {})
@steady
def test_a_block_is_what_the_record_reader_gives(data: bytes, spec: dict[str, Any]) -> None:
    dataset = kit.dataset("x.jsonl", **spec)
    if jsonl.reads(data, dataset):
        block = jsonl.read(data, dataset)
        assert block is not None
        same(block, data, "x.jsonl", **spec)


def test_values_of_every_plain_kind_are_read_at_once() -> None:
    rows = [{"key": f"k{i}", "text": f"é {i} \\ \"quoted\"\n", "n": value, "x": i, "y": i / 7, "b": i % 2 == 0, "t": None}
            for i, value in enumerate[Any]([1, 1.5, "a", True, None, [], {}, 0.1 + 0.2, [1, {"a": "b"}]] * 30)]  # fmt: skip
    for separators in ((",", ":"), (", ", ": ")):
        for ascii_ in (True, False):
            lines = [json.dumps(row, separators=separators, ensure_ascii=ascii_) for row in rows]
            lines[3] = lines[3].replace('"t"', '"other"')
            data = ("\n".join(lines) + "\n").encode()
            for spec in SPECS:
                block = jsonl.read(data, kit.dataset("x.jsonl", **spec))
                assert block is not None and block.by_record <= 1, "the last line alone"
                same(block, data, "x.jsonl", **spec)


def test_a_bad_line_costs_its_neighbours_nothing() -> None:
    lines = [json.dumps({"key": str(i), "text": "t", "n": i}) for i in range(50)]
    lines[7] = '{"key":"7","text":nope}'
    lines[9] = '{"key":"9","text":"\\ud800"}'
    lines[11] = '{"key":"11","text":"t","n":{"a":1.10}}'
    data = "\n".join(lines).encode() + b"\n"
    block = jsonl.read(data, kit.dataset("x.jsonl", id="{key}"))
    assert block is not None and block.by_record <= 5
    same(block, data, "x.jsonl", id="{key}")


def test_what_only_the_record_reader_can_tell_is_left_to_it() -> None:
    data = b'{"text":"t"}\n' * 20
    assert jsonl.read(data, kit.dataset("x.jsonl", json_numbers="text")) is None
    many = json.dumps({"text": "t", **{f"k{i}": i for i in range(300)}}).encode() + b"\n"
    assert jsonl.read(many * 2 + b"\n" * flat.MAX_KEY, kit.dataset("x.jsonl")) is None
    for head in (b"[" + data, b"\xef\xbb\xbf" + data, data.replace(b"\n", b"\r"), b'{\n"text":"t"}\n'):
        assert not jsonl.reads(head, kit.dataset("x.jsonl"))
    assert jsonl.reads(data, kit.dataset("x.jsonl"))
    assert not jsonl.reads(data, kit.dataset("x.jsonl", encoding="utf-16-le"))


def test_reviews_are_read_at_once(tmp_path: Path) -> None:
    """More of them than any reader takes in one piece."""
    next(tables(20_000)).write_ndjson(tmp_path / "x.jsonl")
    data = (tmp_path / "x.jsonl").read_bytes()
    spec = {
        "text": "{title}\\n{text}",
        "id": "{user_id}-{asin}-{timestamp}",
        "where": {"rating": [1, 5], "verified_purchase": True},
    }
    block = jsonl.read(data, kit.dataset("x.jsonl", **spec))
    assert block is not None and block.by_record == 1 and block.filtered and block.own.num_rows > 1000
    same(block, data, "x.jsonl", **spec)
