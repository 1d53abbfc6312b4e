"""The schema of a pipeline file says what the models take."""

import json
from pathlib import Path

from embed_assets.spec import DatasetSpec, EmbeddingPipeline
from embed_assets.spec.schema import SCHEMA, TABLE, schema_text, table_text
from embed_worker.lake.spec import EmbeddingSpec
from tests.kits import ROOT


def test_the_schema_and_the_table_in_docs_are_up_to_date() -> None:
    remedy = "run `python -m embed_assets.spec.schema`"
    assert (ROOT / "docs" / SCHEMA).read_text() == schema_text(), remedy
    assert (ROOT / "docs" / TABLE).read_text() == table_text(), remedy


def test_every_key_is_described() -> None:
    for model in (EmbeddingPipeline, DatasetSpec, EmbeddingSpec):
        missing = [name for name, field in model.model_fields.items() if not field.description]
        assert missing in ([], ["prompts"]), f"{model.__name__}: no docstring for {missing}"
        for name in model.model_fields:
            assert f"| `{name}` |" in table_text()


def test_the_schema_knows_what_the_models_know(tmp_path: Path) -> None:
    schema = json.loads(schema_text())
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == set(EmbeddingPipeline.model_fields)
    assert schema["$defs"]["DatasetSpec"]["properties"]["strides"]["maximum"] == 10_000
