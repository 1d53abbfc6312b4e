"""The embedding spec and its id."""

from typing import Any

import pytest
from pydantic import ValidationError

from embed_worker.lake.spec import EmbeddingSpec, digest_of

BASE: dict[str, Any] = {
    "model": "Alibaba-NLP/gte-Qwen2-7B-instruct",
    "revision": "a8d08b36",
    "sha256": {"model.safetensors": "53" * 32},
    "pooling": "last",
    "attention": "bidirectional",
    "max_tokens": 512,
    "overlap": 50,
    "append_token": "<|endoftext|>",
    "prompts": {"document": "", "query": "Query: "},
}


def spec(**changes: Any) -> EmbeddingSpec:
    return EmbeddingSpec.model_validate({**BASE, **changes})


def test_the_spec_id_is_the_same_for_ever() -> None:
    """A change of this value orphans every lake there is: only a new format may bring one."""
    assert spec().spec_id == "gte-qwen2-7b-instruct-4480d1102fd3"
    minimal = EmbeddingSpec(model="a/b", pooling="mean", attention="causal")
    assert minimal.spec_id == "b-4bde98783c04"


@pytest.mark.parametrize(
    "changes",
    [
        {"prompts": {"document": "", "query": "another"}},
        {"location": "/models/gte"},
        {"engine": {"gpu_memory_utilization": 0.95, "max_num_seqs": 64}},
    ],
)
def test_what_changes_no_vector_keeps_the_id(changes: dict[str, Any]) -> None:
    assert spec(**changes) != spec()
    assert spec(**changes).spec_id == spec().spec_id


CHANGES: dict[str, Any] = {
    "model": "Alibaba-NLP/gte-Qwen2-1.5B-instruct",
    "revision": None,
    "sha256": {"model.safetensors": "54" * 32},
    "pooling": "mean",
    "attention": "causal",
    "normalize": False,
    "dtype": "float32",
    "output_dtype": "float16",
    "max_tokens": 511,
    "long_texts": "truncate",
    "overlap": 49,
    "append_token": None,
    "prompts": {"document": "passage: ", "query": "Query: "},
    "trust_remote_code": True,
    "hf_overrides": {"rope_scaling": None},
    "dimensions": 256,
}


@pytest.mark.parametrize("key", sorted(CHANGES))
def test_all_else_changes_the_id(key: str) -> None:
    assert spec(**{key: CHANGES[key]}).spec_id != spec().spec_id


def test_no_key_is_forgotten() -> None:
    assert set(EmbeddingSpec.model_fields) == set(CHANGES) | {"location", "engine", "references"}


@pytest.mark.parametrize(
    ("model", "slug"),
    [
        ("sentence-transformers/all-MiniLM-L6-v2", "all-minilm-l6-v2"),
        ("/models/My Model!/", "my-model"),
        ("../..", "model"),
        ("東京", "model"),
        ("x" * 200, "x" * 48),
    ],
)
def test_the_id_is_a_safe_folder_name(model: str, slug: str) -> None:
    name, digest = spec(model=model).spec_id.rsplit("-", 1)
    assert name == slug
    assert len(digest) == 12 and int(digest, 16) >= 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": ""}, "model"),
        ({"model": "a\nb"}, "control character"),
        ({"location": "a\x00b"}, "control character"),
        ({"pooling": "max"}, "'mean', 'cls' or 'last'"),
        ({"attention": "none"}, "'causal' or 'bidirectional'"),
        ({"dtype": "int8"}, "bfloat16"),
        ({"output_dtype": "bfloat16"}, "float32"),
        ({"max_tokens": 7}, "greater than or equal to 8"),
        ({"overlap": -1}, "greater than or equal to 0"),
        ({"overlap": 257}, "overlap 257 is over half of max_tokens 512"),
        ({"long_texts": "drop"}, "'window' or 'truncate'"),
        ({"sha256": {"model.safetensors": "53AA"}}, "model.safetensors: not a sha256"),
        ({"sha256": {"../x": "53" * 32}}, "inside the model's folder"),
        ({"sha256": {"/x": "53" * 32}}, "inside the model's folder"),
        ({"engine": {"dtype": "float16"}}, "engine may not set dtype"),
        ({"engine": {"quantization": "fp8", "load_format": "pt"}}, "engine may not set load_format, quantization"),
        ({"poolings": "mean"}, "poolings"),
        ({"prompts": {"documents": "x"}}, "documents"),
    ],
)
def test_bad_values_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        spec(**changes)
    assert message in str(caught.value)


def test_digest_does_not_depend_on_key_order() -> None:
    assert digest_of({"a": 1, "b": {"c": 2, "d": 3}}) == digest_of({"b": {"d": 3, "c": 2}, "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": "1"})
    assert len(digest_of([], length=16)) == 16


def spec_with(**changes: Any) -> EmbeddingSpec:
    return EmbeddingSpec.model_validate({**BASE, **changes})


def test_references_and_absent_dimensions_leave_the_id_alone() -> None:
    plain = spec_with()
    assert "dimensions" not in plain.identity()
    known = spec_with(references=[{"text": "a", "vector": [0.5] * 16}])
    assert known.spec_id == plain.spec_id
    assert spec_with(dimensions=16).spec_id != plain.spec_id
    with pytest.raises(ValueError, match="normalize"):
        spec_with(dimensions=16, normalize=False)
    with pytest.raises(ValueError, match="16"):
        spec_with(references=[{"text": "a", "vector": [0.5] * 15}])
