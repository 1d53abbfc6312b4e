"""The attributes of a defs.yaml: Jinja is resolved in all but our own templates, paths are the file's own."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import AfterValidator, BaseModel

from embed_assets import EmbeddingPipeline, SpecError, load_pipeline
from embed_assets.spec.defs_yaml import AS_WRITTEN, attributes_schema, resolved
from embed_worker.steps.spec import TemplateText
from tests.kits.defs_folder import DefsFolder, defs_yaml
from tests.kits.pipeline_files import pipeline_file


class Env:
    """As Dagster's `env`: None where a variable is not set."""

    def __init__(self, **variables: str) -> None:
        self._variables = variables

    def __getattr__(self, name: str) -> str | None:
        return self._variables.get(name)


def resolve(attributes: Any, folder: Path | None = None, **variables: str) -> Any:
    return resolved(attributes, {"env": Env(**variables)}, folder, lambda key: ".".join(map(str, key)))


def test_it_is_the_pipeline_of_the_same_file(tmp_path: Path) -> None:
    changes = {"datasets.0.source": "/data/a.csv", "description": "For people", "owners": ["team:search"]}
    with DefsFolder({"p": defs_yaml(changes)}).component("p") as (pipeline, _):
        assert pipeline == load_pipeline(pipeline_file(tmp_path, changes))


@pytest.mark.parametrize(
    "text", ["{{subject}} {body}", "a {# b #} {subject}", '{{"t": {subject}}}', "{{ env.X }} {a}", "{% if a %} {a}\n"]
)
def test_a_template_of_ours_is_left_as_written(text: str) -> None:
    changes = {"datasets.0.text": text, "datasets.0.id": text, "embedding.prompts": {"document": text, "query": text}}
    with DefsFolder({"p": defs_yaml(changes)}).component("p") as (pipeline, _):
        dataset, prompts = pipeline.datasets[0], pipeline.embedding.prompts
        assert [dataset.text, dataset.id, prompts.document, prompts.query] == [text] * 4


def test_all_else_is_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "SRC": "/data",
        "N": "7",
        "BUDGET": "2.5",
        "NORM": "false",
        "CODE": "0123",
        "POOL": "cls",
    }.items():
        monkeypatch.setenv(name, value)
    changes = {
        "datasets.0.source": ["{{ env.SRC }}/a.csv", "{{ env('OTHER', '/b.csv') }}"],
        "datasets.0.strides": "{{ env.N }}",
        "datasets.0.where": {"code": "{{ env.CODE }}", "n": "{{ env.N | int }}", "as_written": "123", "none": "{# x #}"},
        "embedding.normalize": "{{ env.NORM }}",
        "embedding.pooling": "{{ env.POOL }}",
        "budget_usd": "{{ env.BUDGET }}",
        "translation": {"tags": {"folder": "{{ context.project_root.split('/')[1] }}"}},
    }  # fmt: skip
    with DefsFolder({"p": defs_yaml(changes)}).component("p") as (pipeline, folder):
        dataset = pipeline.datasets[0]
        assert dataset.source == ["/data/a.csv", "/b.csv"]
        assert dataset.strides == 7 and pipeline.budget_usd == 2.5
        assert dataset.where == {"code": "0123", "n": 7, "as_written": "123", "none": ""}
        assert pipeline.embedding.normalize is False and pipeline.embedding.pooling == "cls"
        assert pipeline.translation.tags == {"folder": folder.parts[1]}


@given(st.text(st.characters(exclude_characters="{", exclude_categories=["Cs"])))
def test_a_value_without_jinja_stays_what_it_is(text: str) -> None:
    value = {"datasets": [{"where": {"a": text, "b": [text]}, "source": text}], "name": text}
    assert resolve(value) == value


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_the_text_of_a_variable_arrives_as_it_is(text: str) -> None:
    """Jinja's own native types would make a number of '123' and a list of '[1]'."""
    value = resolve(
        {"datasets": [{"where": {"a": "{{ env.X }}", "b": ["-{{ env.X }}"]}}], "name": "{{ env.X }}"}, X=text
    )
    assert value == {"datasets": [{"where": {"a": text, "b": [f"-{text}"]}}], "name": text}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{{ nosuch }}", "'nosuch' is undefined"),
        ("a/{{ nosuch.b }}", "'nosuch' is undefined"),
        ("{{ env.NOT_SET }}", "gives nothing"),
        ("a/{{ env.NOT_SET }}", "gives nothing"),
        ("{{ 1 + }}", "cannot be resolved"),
    ],
)
def test_what_cannot_be_resolved_is_one_sentence(text: str, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        resolve({"datasets": [{"source": text}]})
    assert str(caught.value).startswith("datasets.0.source: ") and says in str(caught.value)
    assert text in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("a.csv", "/defs/p/a.csv"),
        ("../data/*.jsonl", "/defs/data/*.jsonl"),
        ("/a.csv", "/a.csv"),
        ("~/a.csv", "~/a.csv"),
        ("s3://b/a.csv", "s3://b/a.csv"),
        ("zip://a.csv::b.zip", "zip://a.csv::/defs/p/b.zip"),
        ("zip://a.csv::file:///b.zip", "zip://a.csv::file:///b.zip"),
        ("{{ env.X }}/a.csv", "/defs/p/here/a.csv"),
        (" ", " "),
    ],
)
def test_a_relative_path_is_from_the_file(path: str, there: str) -> None:
    value = {
        "datasets": [{"source": path}, {"source": [path, path]}], "embedding": {"location": path, "model": "a/b"},
        "plan": {"tokenizer": path},
    }  # fmt: skip
    assert resolve(value, Path("/defs/p"), X="here") == {
        "datasets": [{"source": there}, {"source": [there, there]}], "embedding": {"location": there, "model": "a/b"},
        "plan": {"tokenizer": there},
    }  # fmt: skip


def templates_in(model: type[BaseModel], way: tuple[str, ...] = ()) -> Iterator[str]:
    """Where the fields stand whose text is a template of ours."""
    (marker,) = (one for one in get_args(TemplateText) if isinstance(one, AfterValidator))
    for name, field in model.model_fields.items():
        if marker in field.metadata or marker in _metadata(field.annotation):
            yield ".".join((*way, name))
        many = get_origin(field.annotation) in (list, dict)
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from templates_in(kind, (*way, name, *(["*"] if many else [])))


def _metadata(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        return list(get_args(annotation)[1:])
    return [one for part in get_args(annotation) for one in _metadata(part)]


def test_every_template_of_the_models_is_known() -> None:
    found = set(templates_in(EmbeddingPipeline))
    assert {"datasets.*.text", "datasets.*.id"} <= found <= set(AS_WRITTEN)


def test_the_schema_takes_jinja_and_tells_a_fault_where_it_is() -> None:
    check = Draft202012Validator(attributes_schema())
    good: dict[str, Any] = {
        "name": "{{ x }}",
        "datasets": [{"name": "d", "source": "{{ x }}", "text": "{{x}} {t}", "strides": "{{ env.N }}"}],
        "embedding": {"model": "m", "pooling": "{{ x }}", "attention": "causal", "references": "{{ x }}"},
        "translation": {"names": {"raw_reviews": "texts"}}, "op": {"steps": {"embedding_shards": {"pool": "gpus"}}},
    }  # fmt: skip
    assert not list(check.iter_errors(good))
    bad = json.loads(json.dumps(good))
    bad["datasets"][0] |= {"strides": "8", "stride": 3}
    told = {(".".join(map(str, error.absolute_path)), error.message) for error in check.iter_errors(bad)}
    assert told == {
        ("datasets.0.strides", "'8' is not of type 'integer'"),
        ("datasets.0", "Additional properties are not allowed ('stride' was unexpected)"),
    }
