"""Other people's JSON: every row as it stands, or a reason, or one error. Each test names its kind."""

import json
from pathlib import Path
from typing import Any

import pytest

from embed_worker.lake.snapshots import RawManifest
from embed_worker.lake.store import Store
from embed_worker.steps.raw import ingest
from tests.kits import pipelines as kit
from tests.kits.bad_sources import reasons, refused


def made(store: Store, source: Path, **changes: Any) -> tuple[RawManifest, list[dict[str, Any]]]:
    manifest = ingest(store, kit.dataset(str(source), **{"max_rejects": 0, **changes})).manifest
    assert all(account.total == account.accounted for account in manifest.accounts)
    return manifest, kit.raw_rows(store, manifest)


def write(folder: Path, text: str | bytes, name: str = "r.json") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# Kind: JSON whose records are no lines.

RECORDS = [{"id": i, "text": f'review {i}: "quoted" [x] {{y}}, \\ and é\n'} for i in range(1000)]
SHAPES = {
    "one record a line": "[\n" + ",\n".join(json.dumps(r) for r in RECORDS) + "\n]\n",
    "one line": json.dumps(RECORDS),
    "pretty": json.dumps(RECORDS, indent=2, ensure_ascii=False),
    "objects over lines": "\n".join(json.dumps(r, indent=1) for r in RECORDS),
    "objects over lines with commas": ",\n".join(json.dumps(r, indent=1) for r in RECORDS),
    "pages": "\n".join(json.dumps(RECORDS[i : i + 100]) for i in range(0, 1000, 100)),
    "lines": "\n".join(json.dumps(r) for r in RECORDS),
    "lines with commas": ",\n".join(json.dumps(r) for r in RECORDS) + ",\n",
    "one line without commas": "".join(json.dumps(r) for r in RECORDS),
    "a sequence": "".join("\x1e" + json.dumps(r) + "\n" for r in RECORDS),
    "some over lines": "\n".join(json.dumps(r, indent=1 if i > 3 else None) for i, r in enumerate(RECORDS)),
    "a byte order mark": "\ufeff" + json.dumps(RECORDS),
    "CRLF": json.dumps(RECORDS, indent=2).replace("\n", "\r\n"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_json_that_is_no_lines(tmp_path: Path, store: Store, shape: str) -> None:
    _, rows = made(store, write(tmp_path, SHAPES[shape]), id="{id}")
    assert [(row["id"], row["text"]) for row in rows] == [(str(r["id"]), r["text"]) for r in RECORDS]


def test_an_array_larger_than_the_buffers_is_streamed(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embed_worker.steps.opening.HEAD", 64)
    monkeypatch.setattr("embed_worker.steps.readers.json_values.BUFFER", 16)
    _, rows = made(store, write(tmp_path, SHAPES["pretty"]), id="{id}")
    assert len(rows) == 1000


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('[{"text": "a"}, {"text": "b"', "cut off"),
        ('[{"text": "a"},\n {"text": "b"}', "cut off: the array that begins in line 1"),
        ('[{"text": "a}, \n{"text": "b"}]', "line 1: a text is not closed"),
        ('[{"text": "a"}}, {"text": "b"}]', "line 1: '}, {"),
        ('[{"text": ["a"}, {"text": "b"}]', "line 1: a } closes nothing"),
        ('[{"text": "a"}]\ngarbage', "line 2: 'garbage' stands where a record"),
        ('{"text": {"0": "a", "1": "b"}}', "orient='records'"),
        ('{"data": [{"text": "a"}, {"text": "b"}], "n": 2}', "no column 'text'.*'data'.*jq -c '.data\\[\\]'"),
    ],
)
def test_broken_arrays_stop_the_run(tmp_path: Path, store: Store, lake: Path, text: str, match: str) -> None:
    refused(store, lake, write(tmp_path, text), match)


def test_a_bad_record_of_an_array_is_set_aside_alone(tmp_path: Path, store: Store) -> None:
    text = '[{"text": "a"}, {"text": tru}, 5, "x", null, [1], {"text": "b"}]'
    assert reasons(store, write(tmp_path, text)) == {"malformed JSON": 1, "not a JSON object": 4}


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("{'text': 'a'}", "single quotes: Python's notation"),
        ('{text: "a"}', "keys without quotes"),
        ("<!DOCTYPE html><html>sign in</html>", "is an HTML page"),
        ("  <html><body>sign in</body></html>", "is an HTML page"),
        ("<?xml version='1.0'?><Error/>", "is XML"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        ("PK\x03\x04 zipped", "zip archive or an Excel"),
        ("PAR1 columns PAR1", "format: parquet"),
        ("\x00\x05\x16\x07 finder", "AppleDouble"),
    ],
)
def test_what_is_no_data_is_named(tmp_path: Path, store: Store, lake: Path, line: str, match: str) -> None:
    refused(store, lake, write(tmp_path, f"{line}\n" * 3), match)


# Kind: numbers that a float does not hold as they are written.


@pytest.mark.parametrize("number", ["101463350189962023774", "1" * 25, "-9223372036854775890", "9" * 5000])
def test_integers_beyond_64_bits_stay_as_written(tmp_path: Path, store: Store, number: str) -> None:
    texts = [f'{{"user": {number[:-1]}{i}, "text": "review {i}"}}' for i in range(4)]
    _, rows = made(store, write(tmp_path, "\n".join(texts)), id="{user}")
    assert [row["id"] for row in rows] == [f"{number[:-1]}{i}" for i in range(4)]
    assert [row["user"] for row in rows] == [row["id"] for row in rows]


@pytest.mark.parametrize(
    ("number", "exact", "kind"),
    [
        ("1.10", 1.1, "double"), ("5.0", 5.0, "double"), ("1e3", 1000.0, "double"), ("-0", -0.0, "double"),
        ("0.1", 0.1, "double"), ("3.14159265358979323846", "3.14159265358979323846", "string"),
        ("1e400", "1e400", "string"), ("12345678901234567.5", "12345678901234567.5", "string"),
        ("9007199254740993", 9007199254740993, "int64"), ("18446744073709551615", "18446744073709551615", "string"),
    ],
)  # fmt: skip
def test_a_number_is_in_a_text_as_it_is_written(
    tmp_path: Path, store: Store, number: str, exact: Any, kind: str
) -> None:
    source = write(tmp_path, f'{{"n": {number}, "x": [{number}]}}\n')
    manifest, rows = made(store, source, text="n is {n}, {x}", id="{n}")
    assert (rows[0]["text"], rows[0]["id"]) == (f"n is {number}, [{number}]", number)
    assert (rows[0]["n"], manifest.columns["n"].type) == (exact, kind)
    assert rows[0]["x"] == f"[{number}]"


def test_json_numbers_as_floats_or_as_text(tmp_path: Path, store: Store) -> None:
    source = write(tmp_path, '{"n": 3.14159265358979323846, "text": "a"}\n{"n": 1.50, "text": "b"}\n')
    assert [row["n"] for row in made(store, source, json_numbers="float")[1]] == [3.141592653589793, 1.5]
    assert [row["n"] for row in made(store, source, json_numbers="text")[1]] == ["3.14159265358979323846", "1.50"]


def test_integers_that_floats_do_not_hold_are_not_rounded_when_floats_come(tmp_path: Path, store: Store) -> None:
    write(tmp_path, '{"n": 9007199254740993, "text": "a"}\n', "a.json")
    write(tmp_path, '{"n": 1.5, "text": "b"}\n', "b.json")
    assert [row["n"] for row in made(store, tmp_path / "*.json")[1]] == ["9007199254740993", "1.5"]


# Kind: what Python's json.dumps writes though JSON has no such value.


@pytest.mark.parametrize(("word", "value"), [("NaN", None), ("Infinity", float("inf")), ("-Infinity", float("-inf"))])
def test_numbers_that_json_does_not_have(tmp_path: Path, store: Store, word: str, value: Any) -> None:
    lines = [f'{{"id": {i}, "text": "t", "rating": {word if i % 3 == 0 else 4.0}}}\n' for i in range(9)]
    manifest, rows = made(store, write(tmp_path, "".join(lines)), id="{id}")
    assert [row["rating"] for row in rows] == [value if i % 3 == 0 else 4.0 for i in range(9)]
    assert manifest.nulled == ({"rating": 3} if value is None else {})
    (text,) = {row["text"] for row in made(store, tmp_path / "r.json", text="{rating} {text}")[1][::3]}
    assert text == (" t" if value is None else f"{word} t")


# Kind: a column that is not in the first records, or in none.


@pytest.mark.parametrize("late", [10_021, 1])
def test_a_key_that_comes_late(tmp_path: Path, store: Store, late: int) -> None:
    rows = [{"id": i, "text": f"t{i}", **({"title": "T"} if i >= late else {})} for i in range(10_050)]
    manifest, found = made(store, write(tmp_path, "".join(json.dumps(r) + "\n" for r in rows)), text="{title} {text}")
    assert manifest.rows == 10_050
    assert sum(row["title"] == "T" for row in found) == 10_050 - late
    assert found[-1]["text"] == "T t10049"


def test_more_keys_than_columns_can_be(tmp_path: Path, store: Store) -> None:
    rows = [{"text": "t", **{f"k{i}_{j}": j for j in range(30)}} for i in range(50)]
    manifest, found = made(store, write(tmp_path, "".join(json.dumps(r) + "\n" for r in rows)))
    assert len(manifest.columns) == 1000
    assert json.loads(found[49]["_other"]) == {f"k49_{j}": j for j in range(30)}


# Kind: odd values of columns that no template names.


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (b'"\\ud83d"', None),
        (b'"caf\xe9"', None),
        (b'{"a": "\\ud83d"}', '{"a":"\\ud83d"}'),
        (b'"\\u0000"', "\0"),
        (b"[" * 300 + b"]" * 300, "[" * 300 + "]" * 300),
    ],
)
def test_odd_values_of_other_columns_cost_no_row(tmp_path: Path, store: Store, value: bytes, kept: Any) -> None:
    source = write(tmp_path, b'{"text": "a", "x": ' + value + b'}\n{"text": "b", "x": "fine"}\n')
    manifest, rows = made(store, source)
    assert [row["x"] for row in rows] == [kept, "fine"]
    assert manifest.columns["x"].values == 2
    assert manifest.nulled == ({"x": 1} if kept is None else {})


def test_a_key_that_is_there_twice_is_a_fault(tmp_path: Path, store: Store) -> None:
    source = write(tmp_path, '{"text": "a", "text": "b"}\n{"text": "c", "x": {"y": 1, "y" : 2}}\n{"text": "\\": d"}\n')
    assert reasons(store, source) == {"key twice": 2}
