"""`spec-for`: what a model's own files ask for is what the worker then finds in them."""

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import orjson
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from embed_assets.cli.app import app
from embed_assets.upkeep.spec_for import NoSpec, of_folder, of_hub
from embed_worker.engine.declared import check_declared, declared_by
from embed_worker.lake.files import sha256_of
from embed_worker.lake.spec import EmbeddingSpec


def write(folder: Path, pooling: str = "mean_tokens", modules: tuple[str, ...] = (), **files: Any) -> Path:
    """`files`: stem of a JSON file → its content."""
    (folder / "1_Pooling").mkdir(parents=True, exist_ok=True)
    kinds = ["Transformer", "Pooling", *modules]
    paths = {"Transformer": "", "Pooling": "1_Pooling"}
    found = [{"path": paths.get(kind, f"{at}_{kind}"), "type": f"st.models.{kind}"} for at, kind in enumerate(kinds)]
    (folder / "modules.json").write_bytes(orjson.dumps(found))
    (folder / "1_Pooling/config.json").write_bytes(orjson.dumps({f"pooling_mode_{pooling}": True}))
    (folder / "model.safetensors").write_bytes(b"weights")
    for name, content in {"config": {"model_type": "bert"}, **files}.items():
        (folder / f"{name}.json").write_bytes(orjson.dumps(content))
    return folder


TEXTS = st.text("abc: \n", max_size=12)


@given(
    pooling=st.sampled_from(["mean_tokens", "cls_token", "lasttoken"]),
    modules=st.sets(st.sampled_from(["Normalize", "Dropout"])),
    longest=st.none() | st.integers(8, 9000),
    similarity=st.sampled_from([None, "cosine", "dot"]),
    prompts=st.dictionaries(st.sampled_from(["query", "document", "passage", "sts"]), TEXTS | st.none()),
    default=st.sampled_from([None, "sts", "query"]),
)
def test_the_worker_takes_what_it_gives(
    pooling: str,
    modules: set[str],
    longest: int | None,
    similarity: str | None,
    prompts: dict[str, str | None],
    default: str | None,
) -> None:
    settings = {"prompts": prompts, "default_prompt_name": default, "similarity_fn_name": similarity}
    with tempfile.TemporaryDirectory() as name:
        folder = write(
            Path(name), pooling, tuple(sorted(modules)), config_sentence_transformers=settings,
            sentence_bert_config={"max_seq_length": longest},
        )  # fmt: skip
        spec = EmbeddingSpec.model_validate(of_folder("org/model", folder).embedding)
        check_declared(spec, declared_by(folder))
        assert spec.sha256 == {"model.safetensors": sha256_of(folder / "model.safetensors")}
        assert spec.max_tokens <= 512 and not spec.trust_remote_code


@pytest.mark.parametrize(
    ("config", "attention", "noted"),
    [
        ({"model_type": "xlm-roberta"}, "bidirectional", False),
        ({"model_type": "qwen2", "is_causal": False}, "bidirectional", False),
        ({"model_type": "gemma3_text", "use_bidirectional_attention": True}, "bidirectional", False),
        ({"model_type": "qwen3"}, "causal", True),
    ],
)
def test_what_is_not_said_is_noted(tmp_path: Path, config: dict[str, Any], attention: str, noted: bool) -> None:
    found = of_folder("org/model", write(tmp_path, config={**config, "torch_dtype": "bfloat16"}))
    assert found.embedding["attention"] == attention and found.embedding["dtype"] == "bfloat16"
    assert any(note.startswith("attention: ") for note in found.notes) == noted


def test_a_decoders_last_token_is_appended(tmp_path: Path) -> None:
    tokenizer = {"add_eos_token": True, "eos_token": {"content": "<|end|>"}, "model_max_length": 131072}
    found = of_folder("org/model", write(tmp_path, "lasttoken", tokenizer_config=tokenizer))
    assert found.embedding["append_token"] == "<|end|>"
    assert "max_tokens: the model takes 131,072; longer texts become several windows" in found.notes


@pytest.mark.parametrize("pooling", ["max_tokens", "weightedmean_tokens"])
def test_a_pooling_that_no_spec_has_is_refused(tmp_path: Path, pooling: str) -> None:
    with pytest.raises(NoSpec, match=f"declares the pooling {pooling}; mean, cls or last is known"):
        of_folder("org/model", write(tmp_path, pooling))


def test_pickled_weights_and_no_model_are_refused(tmp_path: Path) -> None:
    (write(tmp_path / "a") / "model.safetensors").unlink()
    with pytest.raises(NoSpec, match=r"has no .*safetensors; weights of other kinds can run code"):
        of_folder("org/model", tmp_path / "a")
    with pytest.raises(NoSpec, match=r"there is no config\.json"):
        of_folder("org/model", tmp_path)


def test_of_the_hub_the_small_files_are_fetched_and_the_digests_are_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    fetched: list[dict[str, Any]] = []

    def model_info(self: object, model: str, **asked: Any) -> SimpleNamespace:
        names = {"model.safetensors": "ab" * 32, "onnx/model.safetensors": "cd" * 32, "config.json": None}
        files = [
            SimpleNamespace(rfilename=name, lfs=digest and SimpleNamespace(sha256=digest))
            for name, digest in names.items()
        ]
        return SimpleNamespace(sha="f" * 40, siblings=files)

    def snapshot_download(model: str, **asked: Any) -> str:
        fetched.append(asked)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    found = of_hub("org/model", "main").embedding
    assert found["revision"] == "f" * 40 and found["sha256"] == {"model.safetensors": "ab" * 32}
    assert fetched == [{"revision": "f" * 40, "allow_patterns": ["*.json", "*.txt", "*.model"]}]


def test_the_command_prints_a_block_that_a_pipeline_takes(tmp_path: Path) -> None:
    folder = write(tmp_path, config_sentence_transformers={"prompts": {"query": "Find: \n\x1b[31m"}})
    told = CliRunner().invoke(app, ["spec-for", "org/model", "--from", str(folder)])
    assert told.exit_code == 0 and "\x1b" not in told.output
    block = yaml.safe_load(told.output)["embedding"]
    assert EmbeddingSpec.model_validate(block).location == str(folder)
    assert block["prompts"]["query"] == "Find: \n\x1b[31m"
    wrong = CliRunner().invoke(app, ["spec-for", "org/model", "--from", str(tmp_path.parent)])
    assert wrong.exit_code == 2 and "there is no config.json" in wrong.output
