"""Other people's CSV and TSV: every row as it stands, or a reason, or one error. Each test names its kind."""

from pathlib import Path
from typing import Any

import pytest

from embed_worker.lake.store import Store
from embed_worker.steps.raw import ingest
from tests.kits import pipelines as kit
from tests.kits.bad_sources import reasons, refused


def bodies(store: Store, source: Path, **changes: Any) -> list[str]:
    manifest = ingest(store, kit.dataset(str(source), **{"text": "{body}", "max_rejects": 0, **changes})).manifest
    assert all(account.total == account.accounted for account in manifest.accounts)
    return [row["text"] for row in kit.raw_rows(store, manifest, ["text"])]


def write(folder: Path, data: str | bytes, name: str = "r.csv") -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


# Kind: in files without quoting a quote is a character like any other; where both readings are possible, stop.

UNBALANCED = ['"Wow" they said', '"Bad toaster', "Nice kettle", "Poor lid", '"So so" I guess', "Last one"]


@pytest.mark.parametrize(
    "texts",
    [
        UNBALANCED,
        ['"opened only', "plain", "plain"],
        ["plain", '5" screen', 'ends with "'],
        ['"', "a", '"b'],
        ['"x" and "y', "z", '""empty"" pair'],
        ["plain", "it's", "'single' quotes'"],
        [*["plain"] * 3000, '"late', "last"],
        ['"whole one"', '"but this one opens', "c"],
    ],
)
def test_a_tsv_without_quoting_keeps_its_quotes(tmp_path: Path, store: Store, texts: list[str]) -> None:
    rows = "".join(f"R{i}\t{i}\t{text}\n" for i, text in enumerate(texts))
    assert bodies(store, write(tmp_path, "rid\tstars\tbody\n" + rows, "r.tsv"), id="{rid}") == texts


@pytest.mark.parametrize(
    ("lines", "texts"),
    [
        (['1\t"a ""b"" c"', "2\tplain"], ['a "b" c', "plain"]),
        (['1\t"with a\ttab"', "2\tplain"], ["with a\ttab", "plain"]),
        (['1\t"two\nlines"', "2\tplain"], ["two\nlines", "plain"]),
        (['"1"\t"all"', '"2"\t"quoted"'], ["all", "quoted"]),
        (['1\t"not"', '2.5\t"numbers"', '\t"or none"'], ["not", "numbers", "or none"]),
    ],
)
def test_a_tsv_that_shows_its_quoting_is_read_so(
    tmp_path: Path, store: Store, lines: list[str], texts: list[str]
) -> None:
    assert bodies(store, write(tmp_path, "\n".join(["rid\tbody", *lines, ""]), "r.tsv")) == texts


def test_a_tsv_that_can_be_read_both_ways_stops_with_both_readings(tmp_path: Path, store: Store, lake: Path) -> None:
    source = write(tmp_path, 'rid\tbody\n1\tplain\n2\t"Great"\n3\tplain\n', "r.tsv")
    told = refused(store, lake, source, "line 3", text="{body}")
    assert """`quote: none` reads '"Great"', `quote: '"'` reads 'Great'""" in told
    assert bodies(store, source, quote="none") == ["plain", '"Great"', "plain"]
    assert bodies(store, source, quote='"') == ["plain", "Great", "plain"]


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ('1,a,"Wow" they said\n2,b,Fine\n3,c,"Good, too"\n', ["Fine", "Good, too"]),
        ('1,a,"Bad toaster\n2,b,Fine\n3,c,"So" so\n', ["Fine"]),
        ('1,a,"Bad toaster\n2,b,Fine\n3,c,"Poor lid"\n', ["Fine", "Poor lid"]),
        ('1,a,"x "y" z"\n2,b,Fine\n', ["Fine"]),
        ('1,a,"two\nlines" and more\n2,b,Fine\n', ["Fine"]),
    ],
)
def test_a_csv_row_whose_quotes_do_not_match_is_set_aside_alone(
    tmp_path: Path, store: Store, rows: str, kept: list[str]
) -> None:
    source = write(tmp_path, "rid,x,body\n" + rows)
    manifest = ingest(store, kit.dataset(str(source), text="{body}")).manifest
    assert [row["text"] for row in kit.raw_rows(store, manifest)] == kept
    assert set(manifest.rejects_by_reason) == {"quote closes in mid-field"}
    assert all(account.total == account.accounted for account in manifest.accounts)


@pytest.mark.parametrize(
    "rows",
    [
        '1,a,"Wow" they said\n2,b,Fine\n3,c,tv 5"\n',
        '1,a,"Bad\n2,b,tv 5"\n3,c,Fine\n',
        '1,a,Fine\n2,b,"Bad toaster\n3,c,Fine\n4,d,Fine\n',
    ],
)
def test_a_csv_that_can_be_read_both_ways_stops(tmp_path: Path, store: Store, lake: Path, rows: str) -> None:
    source = write(tmp_path, "rid,x,body\n" + rows)
    assert "quote: none" in refused(store, lake, source, "line [23]", text="{body}")
    assert len(bodies(store, source, quote="none")) == rows.count("\n")


# Kind: what stands before a quote, delimiter or line end to take it as it is differs from writer to writer.

BACKSLASHES = 'rid,body\nR1,"She said \\"great, really\\" and left"\nR2,"plain"\nR3,"said \\"ok\\" then"\nR4,"two\nlines"\nR5,next\n'


def test_backslashes_before_quotes_want_a_key(tmp_path: Path, store: Store, lake: Path) -> None:
    source = write(tmp_path, BACKSLASHES)
    assert reasons(store, source, text="{body}") == {"quote closes in mid-field": 2}
    assert "see `escape`" in refused(
        Store(f"{lake}2"), tmp_path / "lake2", source, "2 of 5", text="{body}", max_rejects=0.01
    )
    expected = ['She said "great, really" and left', "plain", 'said "ok" then', "two\nlines", "next"]
    assert bodies(store, source, escape="\\") == expected


@pytest.mark.parametrize(
    ("row", "keys", "text"),
    [
        ('1,"C:\\new\\"', {}, "C:\\new\\"),
        ('1,"C:\\\\new \\n"', {"escape": "\\"}, "C:\\new \\n"),
        ("1,a\\,b", {"escape": "\\", "quote": "none"}, "a,b"),
        ("1,a\\\nb", {"escape": "\\", "quote": "none"}, "a\nb"),
        ("1\ta\\nb\\tc\\\\d", {"escape": "c-style", "quote": "none", "delimiter": "\t"}, "a\nb\tc\\d"),
        ('1,"say ""hi"""', {}, 'say "hi"'),
        ("1,'it''s, ok'", {"quote": "'"}, "it's, ok"),
        ('1, "a, b" ', {"skip_blank_after_delimiter": True}, "a, b"),
        ('1,5" screen', {}, '5" screen'),
        ('1,|a,"b|', {"quote": "|"}, 'a,"b'),
    ],
)
def test_the_keys_of_quotes_and_escapes(
    tmp_path: Path, store: Store, row: str, keys: dict[str, Any], text: str
) -> None:
    header = "rid\tbody\n" if keys.get("delimiter") == "\t" else "rid,body\n"
    assert bodies(store, write(tmp_path, header + row + "\n"), **keys) == [text]


# Kind: a header is not the only way to name columns, and what a spreadsheet leaves in it is no name.


def test_a_csv_without_a_header(tmp_path: Path, store: Store, lake: Path) -> None:
    source = write(tmp_path, '"1","A long review.\nIt goes on ' + "and on " * 60 + '"\n"2","short"\n')
    told = refused(store, lake, source, "no column 'text'")
    assert "header: none" in told and len(told) < 400
    rows = bodies(store, source, header="none", columns=["id", "body"])
    assert len(rows) == 2 and rows[1] == "short"


@pytest.mark.parametrize(
    ("data", "keys", "text"),
    [
        ("# made by a tool\nrid,body\n1,x\n", {"header": 2}, "x"),
        ("rid;body\n1;a, b\n", {"delimiter": ";"}, "a, b"),
        ("rid::body\n1::a:b\n", {"delimiter": "::"}, "a:b"),
        ("rid|body\n1|x\n", {"delimiter": "|"}, "x"),
        ("sep=;\nrid;body\n1;x\n", {}, "x"),
        ("sep=;\r\nrid;body\r\n1;x\r\n", {"delimiter": ";"}, "x"),
        ("rid,body\r1,x\r", {}, "x"),
        ("\ufeffbody,rid\nx,1\n", {}, "x"),
        ("rid,body\n1,x", {}, "x"),
        ("\n\nrid,body\n1,x\n", {}, "x"),
        ("rid, body\n1, x\n", {"text": "{ body}"}, " x"),
    ],
)
def test_headers_and_delimiters(tmp_path: Path, store: Store, data: str, keys: dict[str, Any], text: str) -> None:
    assert bodies(store, write(tmp_path, data), **keys) == [text]


@pytest.mark.parametrize(
    ("data", "cure"),
    [
        ("id;body\n1;x, y\n", r'delimiter: ";"'),
        ("id\tbody\n1\tx\n", r'delimiter: "\\t"'),
        ("id|body\n1|x\n", r'delimiter: "\|"'),
        ("id, body\n1, x\n", r"Write it as it stands: \{ body\}"),
        ("Id,Body\n1,x\n", r"\{Body\}"),
        ("body,body\nx,y\n", r"\{body_1\} or \{body_2\}"),
    ],
)
def test_a_column_that_is_not_there_comes_with_the_cure(
    tmp_path: Path, store: Store, lake: Path, data: str, cure: str
) -> None:
    refused(store, lake, write(tmp_path, data), cure, text="{body}")


def test_columns_without_a_name_have_one(tmp_path: Path, store: Store, lake: Path) -> None:
    source = write(
        tmp_path, 'v1,v2,,,\r\nham,"Go, now",,,\r\nspam,Free \xa31000,,,\r\nham,U say,,,\r\n'.encode("latin-1")
    )
    assert "encoding" in refused(store, lake, source, "1 of 3", text="{v2}", max_rejects=0.01)
    assert bodies(store, source, text="{v2}", encoding="latin-1") == ["Go, now", "Free \xa31000", "U say"]
    index = write(tmp_path, ",body\n7,x\n", "i.csv")
    assert bodies(store, index, text="{column_1}: {body}") == ["7: x"]


def test_any_column_can_be_named(tmp_path: Path, store: Store) -> None:
    source = write(tmp_path, '"What did you like? (e.g.: food)","Rate us!","a ""b"" {c}"\nsoup,5,x\n')
    assert bodies(store, source, text='{"What did you like? (e.g.: food)"}') == ["soup"]
    assert bodies(store, source, text='{"Rate us!"}/{"a ""b"" {c}"}') == ["5/x"]


# Kind: an encoding that is not UTF-8.


@pytest.mark.parametrize(
    ("encoding", "written"),
    [("cp1252", "cp1252"), ("utf-16", "utf-16"), (None, "utf-16"), (None, "utf-32"), (None, "utf-8-sig"),
     ("utf-16-le", "utf-16-le"), ("shift_jis", "shift_jis"), ("gb18030", "gb18030"), ("utf-16-be", "utf-16-be")],
)  # fmt: skip
def test_encodings(tmp_path: Path, store: Store, encoding: str | None, written: str) -> None:
    text = "テスト" if written in ("shift_jis", "gb18030") else "café" if written == "cp1252" else "naïve テスト"
    source = write(tmp_path, f'rid,body\n1,"{text}, two\nlines"\n2,x\n'.encode(written))
    assert bodies(store, source, **({"encoding": encoding} if encoding else {})) == [f"{text}, two\nlines", "x"]


def test_a_byte_that_the_encoding_does_not_have(tmp_path: Path, store: Store) -> None:
    source = write(tmp_path, b"rid,body,other\n1,fine,\x81\n2,odd \x81,x\n")
    manifest = ingest(store, kit.dataset(str(source), text="{body}", encoding="cp1252")).manifest
    assert manifest.rejects_by_reason == {"invalid UTF-8": 1}
    assert manifest.nulled == {"other": 1}


# Kind: what a field without a value is written as, and what other columns may hold.


def test_null_values_and_columns(tmp_path: Path, store: Store) -> None:
    source = write(tmp_path, "rid,body,n,when\n007,x,NA,2020\n8,NA,5,2021\n9,y,1.50,no\n")
    keys = {"null_values": ["NA"], "columns": {"rid": "any", "n": "float"}, "text": "{body}"}
    manifest = ingest(store, kit.dataset(str(source), **keys)).manifest
    assert manifest.rejects_by_reason == {"null text": 1}
    rows = kit.raw_rows(store, manifest)
    assert [(row["rid"], row["n"]) for row in rows] == [("007", None), ("9", 1.5)]
    assert "when" not in rows[0]
    assert manifest.warnings == []
    other = ingest(store, kit.dataset(str(source), text="{body}", columns=["rid", "nope"])).manifest
    assert other.warnings == ["`columns` names 'nope', and no file has it"]
    typed = ingest(store, kit.dataset(str(source), text="{body}", columns={"n": "int"})).manifest
    assert [row["n"] for row in kit.raw_rows(store, typed)] == [None, 5, None]
    assert typed.columns["n"].model_dump() == {"type": "int64", "values": 3, "nulled": 2}


def test_where_compares_numbers_in_csv(tmp_path: Path, store: Store) -> None:
    source = write(tmp_path, "stars,body\n5.0,a\n4,b\n5,c\n05,d\n 5,e\n5e0,f\n")
    assert bodies(store, source, where={"stars": 5}) == ["a", "c", "e", "f"]
    assert bodies(store, source, where={"stars": "5"}) == ["c"]
    assert bodies(store, source, where={"stars": "05"}) == ["d"]


def test_a_csv_column_stays_text(tmp_path: Path, store: Store) -> None:
    source = write(tmp_path, "rid,body,zip\n1,x,01234\n2,y,5.0\n")
    manifest = ingest(store, kit.dataset(str(source), text="{body}")).manifest
    assert [row["zip"] for row in kit.raw_rows(store, manifest)] == ["01234", "5.0"]
