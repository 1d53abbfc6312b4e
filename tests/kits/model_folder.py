"""A folder that looks like a sentence-transformers model, as far as the engine, which is not reached."""

import hashlib
import sys
from pathlib import Path

import orjson
import pytest

from embed_worker.engine.hash import byte_tokenizer
from embed_worker.engine.loading import load_model
from embed_worker.errors import BadJob
from embed_worker.lake.spec import EmbeddingSpec
from tests.kits.attempt.jobs import make_spec


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like a model; touching the engine is an error."""
    monkeypatch.setitem(sys.modules, "embed_worker.engine.vllm", None)
    folder = tmp_path / "model"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "modules.json").write_bytes(
        orjson.dumps(
            [
                {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
                {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            ]
        )
    )
    flags = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True, "word_embedding_dimension": 4}
    (folder / "1_Pooling/config.json").write_bytes(orjson.dumps(flags))
    return folder


def spec_of(folder: Path, **changes: object) -> EmbeddingSpec:
    digest = hashlib.sha256(b"weights").hexdigest()
    values = {"model": "a/b", "location": str(folder), "sha256": {"model.safetensors": digest}, **changes}
    return make_spec(**values)


def refusal(spec: EmbeddingSpec) -> str:
    with pytest.raises(BadJob) as caught:
        load_model(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)
