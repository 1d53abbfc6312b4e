"""What a model's own files say is held against the spec, before its engine is loaded."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from embed_worker.engine.declared import check_declared, declared_by
from embed_worker.engine.loading import load_model
from embed_worker.lake.spec import EmbeddingSpec
from tests.kits.model_folder import folder, refusal, spec_of

__all__ = ["folder"]


def reaches_the_engine(spec: EmbeddingSpec) -> None:
    with pytest.raises(ImportError, match=r"embed_worker\.engine\.vllm"):
        load_model(spec)


def declare(folder: Path, *modules: str, **settings: Any) -> None:
    """Modules after the two that are there; keys of config_sentence_transformers.json."""
    found = orjson.loads((folder / "modules.json").read_bytes())
    found += [
        {"path": f"{at}_{name}", "type": f"sentence_transformers.models.{name}"} for at, name in enumerate(modules, 2)
    ]
    (folder / "modules.json").write_bytes(orjson.dumps(found))
    (folder / "config_sentence_transformers.json").write_bytes(orjson.dumps(settings))


@pytest.mark.parametrize(
    ("config", "declared"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode": "lasttoken"}, "last"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode_max_tokens": True}, "max_tokens"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "mean+cls"),
    ],
)
def test_the_models_own_pooling_is_held_against_the_spec(
    folder: Path, config: dict[str, object], declared: str
) -> None:
    (folder / "1_Pooling/config.json").write_bytes(orjson.dumps(config))
    for pooling in ("mean", "cls", "last"):
        spec = spec_of(folder, pooling=pooling)
        if pooling == declared:
            check_declared(spec, declared_by(folder))
        else:
            assert f"declares {declared}" in refusal(spec)


def test_a_model_that_declares_no_pooling_takes_any(folder: Path) -> None:
    (folder / "modules.json").unlink()
    check_declared(spec_of(folder, pooling="last"), declared_by(folder))


def test_a_broken_declaration_is_refused(folder: Path) -> None:
    (folder / "modules.json").write_text('[{"idx": 0}]')
    assert "modules.json" in refusal(spec_of(folder))


@pytest.mark.parametrize("name", ["sentence_bert_config.json", "sentence_roberta_config.json"])
def test_a_model_that_wants_lower_case_needs_a_tokenizer_that_lowers(folder: Path, name: str) -> None:
    (folder / name).write_bytes(orjson.dumps({"do_lower_case": True}))
    message = refusal(spec_of(folder))
    assert f"{folder / name} says do_lower_case: true" in message and '{"type": "Lowercase"}' in message
    tokenizer = orjson.loads((folder / "tokenizer.json").read_bytes())
    tokenizer["normalizer"] = {"type": "Lowercase"}
    (folder / "tokenizer.json").write_bytes(orjson.dumps(tokenizer))
    reaches_the_engine(spec_of(folder))


def test_a_model_that_lowers_nothing_keeps_its_capitals(folder: Path) -> None:
    (folder / "sentence_bert_config.json").write_bytes(orjson.dumps({"max_seq_length": 64, "do_lower_case": False}))
    reaches_the_engine(spec_of(folder))


def test_more_tokens_than_the_model_declares(folder: Path) -> None:
    config = folder / "sentence_bert_config.json"
    config.write_bytes(orjson.dumps({"max_seq_length": 63}))
    assert "max_seq_length 63; write max_tokens: 63" in refusal(spec_of(folder, max_tokens=64))
    config.write_bytes(orjson.dumps({"max_seq_length": None}))
    reaches_the_engine(spec_of(folder))
    config.write_text("[1]")
    assert f"{config} cannot be read" in refusal(spec_of(folder))


def test_a_normalize_module_and_the_similarity_say_whether_lengths_count(folder: Path) -> None:
    declare(folder, similarity_fn_name="dot")
    assert "write normalize: false" in refusal(spec_of(folder))
    reaches_the_engine(spec_of(folder, normalize=False))
    declare(folder, "Normalize", similarity_fn_name="dot")
    assert "write normalize: true" in refusal(spec_of(folder, normalize=False))
    reaches_the_engine(spec_of(folder))
    declare(folder, similarity_fn_name="cosine")
    reaches_the_engine(spec_of(folder))


def test_layers_that_the_spec_has_no_key_for_need_references(folder: Path) -> None:
    declare(folder, "Dropout", "Dense")
    message = refusal(spec_of(folder))
    assert "no key for: Dense" in message and "embedding.references" in message
    reaches_the_engine(spec_of(folder, references=[{"text": "a", "vector": [0.0] * 16}]))


@pytest.mark.parametrize(
    "settings",
    [
        {"prompts": {"query": "", "document": "text: "}},
        {"prompts": {"passage": "text: "}},
        {"prompts": {"text": "text: ", "other": "x"}, "default_prompt_name": "text"},
    ],
)
def test_the_prompt_of_documents_is_the_models(folder: Path, settings: dict[str, Any]) -> None:
    declare(folder, **settings)
    message = refusal(spec_of(folder))
    assert "prompts.document: ''" in message and 'write prompts: {document: "text: "}' in message
    assert "prompts.document: 'text:'" in refusal(spec_of(folder, prompts={"document": "text:"}))
    reaches_the_engine(spec_of(folder, prompts={"document": "text: "}))


def test_a_query_prompt_is_not_forgotten_and_may_be_ones_own(folder: Path) -> None:
    declare(folder, prompts={"query": "Find: \n", "document": None})
    assert 'write prompts: {query: "Find: \\n"}, or your own' in refusal(spec_of(folder))
    for prompt in ("Find: \n", "Find a review: "):
        reaches_the_engine(spec_of(folder, prompts={"query": prompt}))


def test_prompts_of_ones_own_where_the_model_has_none(folder: Path) -> None:
    declare(folder, prompts={}, default_prompt_name=None)
    reaches_the_engine(spec_of(folder, prompts={"document": "passage: ", "query": "query: "}))


@pytest.mark.parametrize("content", ["[1]", "{", '{"prompts": ["a"]}', '{"prompts": {"query": 1}}'])
def test_broken_settings_are_refused(folder: Path, content: str) -> None:
    (folder / "config_sentence_transformers.json").write_text(content)
    assert "config_sentence_transformers.json" in refusal(spec_of(folder))
