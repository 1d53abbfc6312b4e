"""Faults in a pipeline file: one line each, with the file and the key."""

from pathlib import Path
from typing import Any

import pytest

from embed_assets.settings import Settings
from embed_assets.spec import SpecError, load_pipeline
from tests.kits.pipeline_files import GOOD, pipeline_file


@pytest.mark.parametrize(
    ("key", "value", "at", "says"),
    [
        ("nmae", "x", "nmae", "did you mean 'name'?"),
        ("datasets.0.stride", 4, "datasets.0.stride", "did you mean 'strides'?"),
        ("datasets.0.xyz", 4, "datasets.0.xyz", "known keys: name, source, format"),
        ("datasets.0.rows", {"strat": 1}, "datasets.0.rows.strat", "did you mean 'start'?"),
        ("embedding.promts", {}, "embedding.promts", "did you mean 'prompts'?"),
        ("embedding.prompts", {"querry": ""}, "embedding.prompts.querry", "did you mean 'query'?"),
        ("name", None, "name", "is required"),
        ("datasets", None, "datasets", "is required"),
        ("embedding.model", None, "embedding.model", "is required"),
        ("embedding.pooling", None, "embedding.pooling", "is required"),
        ("embedding.attention", None, "embedding.attention", "is required"),
        ("datasets.0.source", None, "datasets.0.source", "is required"),
        ("datasets.0.text", None, "datasets.0.text", "is required"),
        ("datasets.0.strides", None, "datasets.0.strides", "is required"),
        ("name", "Bad-Name", "name", "^[a-z]"),
        ("name", 5, "name", "should be a valid string (got '5')"),
        ("datasets", [], "datasets", "at least 1"),
        ("datasets", {}, "datasets", "should be a valid list"),
        ("datasets.0", 7, "datasets.0", "should be a valid dictionary"),
        ("datasets.0.source", 5, "datasets.0.source", "should be a valid string or a valid list"),
        ("datasets.0.source", [], "datasets.0.source", "at least 1"),
        ("datasets.0.source", " ", "datasets.0.source", "is not a path or URL"),
        ("datasets.0.source", ["a\x00b"], "datasets.0.source", "is not a path or URL"),
        ("datasets.0.format", "xml", "datasets.0.format", "'jsonl', 'csv', 'tsv' or 'parquet'"),
        ("datasets.0.compression", "rar", "datasets.0.compression", "'gzip'"),
        ("datasets.0.strides", 0, "datasets.0.strides", "greater than or equal to 1 (got '0')"),
        ("datasets.0.strides", 10_001, "datasets.0.strides", "less than or equal to 10000"),
        ("datasets.0.strides", True, "datasets.0.strides", "valid integer"),
        ("datasets.0.strides", "8", "datasets.0.strides", "valid integer"),
        ("datasets.0.partitioning", "random", "datasets.0.partitioning", "'stride' or 'contiguous'"),
        ("datasets.0.rows", {"start": 5, "end": 5}, "datasets.0.rows", "end 5 must be greater than start 5"),
        ("datasets.0.rows", {"start": -1}, "datasets.0.rows.start", "greater than or equal to 0"),
        ("datasets.0.where", {"c": {"x": 1}}, "datasets.0.where.c", "should be a valid string or"),
        ("datasets.0.where", 5, "datasets.0.where", "should be a valid dictionary"),
        ("datasets.0.max_text_bytes", 0, "datasets.0.max_text_bytes", "greater than or equal to 1"),
        ("datasets.0.storage_options", {"api_key": "x"}, "datasets.0.storage_options", "secrets do not belong"),
        ("datasets.0.text", "no column", "datasets.0.text", "names no column"),
        ("datasets.0.text", "{a!r}", "datasets.0.text", "only {column} is allowed"),
        ("datasets.0.id", "{}", "datasets.0.id", "only {column} is allowed"),
        ("embedding.pooling", "max", "embedding.pooling", "'mean', 'cls' or 'last'"),
        ("embedding.overlap", 40, "embedding", "overlap 40 is over half of max_tokens 64"),
        ("embedding.max_tokens", 4, "embedding.max_tokens", "greater than or equal to 8"),
        ("embedding.sha256", {"w": "abc"}, "embedding.sha256", "not a sha256 (64 hex digits)"),
        ("embedding.sha256", {"../w": "0" * 64}, "embedding.sha256", "inside the model's folder"),
        ("embedding.engine", {"dtype": "x"}, "embedding", "use the spec's own keys"),
        ("embedding.model", "", "embedding.model", "at least 1"),
        ("checkpoint_rows", 0, "checkpoint_rows", "greater than or equal to 1"),
        ("owners", ["search"], "owners", "neither an e-mail address nor `team:name`"),
    ],
)
def test_a_fault_is_one_line_with_file_and_key(tmp_path: Path, key: str, value: Any, at: str, says: str) -> None:
    path = pipeline_file(tmp_path, {key: value})
    with pytest.raises(SpecError) as caught:
        load_pipeline(path)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{path}: {at}: "), line
    assert says in line


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    path = pipeline_file(tmp_path, {"nmae": 1, "datasets.0.strides": 0, "embedding.pooling": "x"})
    with pytest.raises(SpecError) as caught:
        load_pipeline(path)
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "a/b",
        "../x",
        "a\\b",
        "/abs",
        "",
        "A",
        "é",
        "a b",
        "a..b",
        "a.",
        ".a",
        "-a",
        "a\n",
        "a" * 64,
        "a\x00",
        "_a",
        "%2e%2e",
    ],
)
def test_dataset_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpecError, match=r"datasets\.0\.name"):
        load_pipeline(pipeline_file(tmp_path, {"datasets.0.name": name}))


@pytest.mark.parametrize("name", ["a", "books", "all_beauty", "us-east.2024", "0", "a" * 63])
def test_plain_dataset_names_are_taken(tmp_path: Path, name: str) -> None:
    assert load_pipeline(pipeline_file(tmp_path, {"datasets.0.name": name})).datasets[0].name == name


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: a\nname: b\n", "key 'name' is there twice"),
        ("datasets:\n  - {name: a, name: b}\n", "key 'name' is there twice"),
        ("a: [1\n", "not valid YAML"),
        ("a: !!python/object/apply:os.system [id]\n", "not valid YAML"),
        ("a: &x {b: *x}\n", "not valid YAML"),
        ("? [a, b]\n: 1\n", "not valid YAML"),
        ("- a\n", "a pipeline is a mapping with the keys name"),
        ("", "a pipeline is a mapping"),
        ("just words", "a pipeline is a mapping"),
    ],
)
def test_a_file_that_is_no_pipeline(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        load_pipeline(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        load_pipeline(tmp_path / "absent.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(SpecError, match="cannot be read"):
        load_pipeline(tmp_path / "latin.yaml")


def test_anchors_and_merge_keys_share_what_datasets_have_in_common(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        "name: p\ndatasets:\n  - &base {name: a, source: a.csv, text: '{t}', strides: 2}\n"
        "  - {<<: *base, name: b, strides: 3}\n"
        "embedding: {model: embed-worker/hash, pooling: mean, attention: causal}\n"
    )
    found = load_pipeline(path).datasets
    assert [(d.name, d.source, d.strides) for d in found] == [("a", "a.csv", 2), ("b", "a.csv", 3)]


@pytest.mark.parametrize("name", ["d", "e"])
def test_a_former_name_is_no_datasets_any_more(tmp_path: Path, name: str) -> None:
    datasets = [GOOD["datasets"][0], {**GOOD["datasets"][0], "name": "e", "formerly": name}]
    with pytest.raises(SpecError, match=rf"dataset e was formerly {name}, which is a dataset still; .*reuse_from: "):
        load_pipeline(pipeline_file(tmp_path, {"datasets": datasets}))


def test_a_dataset_twice(tmp_path: Path) -> None:
    path = pipeline_file(tmp_path, {"datasets": GOOD["datasets"] * 2})
    with pytest.raises(SpecError, match="dataset d is there twice"):
        load_pipeline(path)


def test_settings_name_what_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"EMBED_PIPELINES: no file matches 'x\*\.yaml'"):
        Settings(pipelines="x*.yaml").pipeline_files()
    with pytest.raises(ValueError, match="EMBED_PIPELINES is empty"):
        Settings(pipelines=" , ").pipeline_files()
    for name in "ab":
        pipeline_file(tmp_path, name=f"{name}.yaml")
    assert Settings(pipelines="b.yaml, *.yaml").pipeline_files() == [Path("b.yaml"), Path("a.yaml")]


@pytest.mark.parametrize(
    ("word", "read"),
    [
        ("no", "false"), ("on", "true"), ("Yes", "true"), ("OFF", "false"), ("True", "true"), ("01234", "668"),
        ("12:30", "750"), ("1:2:3", "3723"), ("1.10", "1.1"), ("1e3", "a text"), ("1.5e+3", "1500.0"), (".5", "0.5"),
        ("5.", "5.0"), ("+5", "5"), ("0x1F", "31"), ("1_000", "1000"), ("2020-01-01", "a date"), ("~", "no value"),
        ("null", "no value"), (".inf", "inf"), ("0b11", "3"), ("2001-12-14t21:59:43.10-05:00", "a date"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "place", ["where: {lang: %s}", "where: {lang: [en, %s]}", "null_values: [x, %s]", "columns: [%s]"]
)
def test_words_that_yaml_changes_are_refused(tmp_path: Path, place: str, word: str, read: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(YAML % (place % word))
    with pytest.raises(SpecError) as caught:
        load_pipeline(path)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{path}: datasets.0.{place.split(':', maxsplit=1)[0]}")
    assert f'YAML reads {word} as {read}; quote it: "{word}"' in line
    path.write_text(YAML % (place % f'"{word}"'))
    assert load_pipeline(path)


YAML = """name: p
datasets:
- {name: d, source: a.csv, text: "{text}", strides: 3, %s}
embedding: {model: m, pooling: mean, attention: causal}
"""


@pytest.mark.parametrize("word", ["5", "5.0", "-1", "0", "0.25", "true", "false", "en", "y", "1.5.2", "a b", "'no'"])
def test_words_that_yaml_keeps_are_taken(tmp_path: Path, word: str) -> None:
    (tmp_path / "p.yaml").write_text(YAML % f"where: {{lang: {word}}}")
    value = load_pipeline(tmp_path / "p.yaml").datasets[0].where["lang"]
    assert str(value).lower() == word.strip("'")


def test_names_and_numbers_that_yaml_changes(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(YAML % "where: {no: x}")
    with pytest.raises(SpecError, match=r'where: YAML reads the name no as false; quote it: "no"'):
        load_pipeline(path)
    path.write_text((YAML % "max_text_bytes: 1000").replace("strides: 3", "strides: 010"))
    with pytest.raises(SpecError, match=r"datasets\.0\.strides: YAML reads 010 as 8"):
        load_pipeline(path)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"delimiter": ""}, "is no delimiter"),
        ({"delimiter": "\n"}, "is no delimiter"),
        ({"quote": "''"}, "is no quote"),
        ({"escape": "ab"}, "is no escape"),
        ({"delimiter": "|", "quote": "|"}, "two of delimiter, quote and escape"),
        ({"header": "none"}, "needs `columns`"),
        ({"header": 0}, "counted from 1"),
        ({"header": True}, "valid integer"),
        ({"encoding": "klingon"}, "is no encoding"),
        ({"encoding": "base64"}, "is no encoding"),
        ({"columns": ["a", "a"]}, "names a column twice"),
        ({"columns": {"a": "text"}}, "'string'"),
        ({"max_rejects": 2}, "less than or equal to 1"),
        ({"decompression_window": 1}, "greater than or equal"),
        ({"json_numbers": "decimal"}, "'exact'"),
    ],
)
def test_keys_of_the_dialect(tmp_path: Path, keys: dict[str, Any], says: str) -> None:
    path = pipeline_file(tmp_path, {f"datasets.0.{key}": value for key, value in keys.items()})
    with pytest.raises(SpecError) as caught:
        load_pipeline(path)
    assert says in str(caught.value)
