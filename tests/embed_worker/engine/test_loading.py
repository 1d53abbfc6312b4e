"""The hash engine, and what is checked of a model before its engine is loaded."""

import hashlib
import sys
from pathlib import Path

import numpy as np
import orjson
import pytest

from embed_worker.engine import loading as models
from embed_worker.engine.base import ListSource, embed_list
from embed_worker.engine.hash import DIMENSION, HashEngine, byte_tokenizer
from embed_worker.engine.loading import CANARY_TEXTS, load_model
from embed_worker.errors import BadJob
from embed_worker.lake.spec import EmbeddingSpec
from tests.kits.attempt.jobs import CountingEngine, make_spec


def test_hash_vectors_are_a_function_of_ids_and_space() -> None:
    sequences = [(0, 5, 1), (0, 6, 1), (0, 5, 5, 1)]
    vectors = embed_list(HashEngine(make_spec()), sequences)
    assert vectors.shape == (3, DIMENSION) and vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, embed_list(HashEngine(make_spec()), sequences))
    np.testing.assert_array_equal(vectors[::-1], embed_list(HashEngine(make_spec()), sequences[::-1]))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    assert np.abs(vectors @ vectors.T - np.eye(3)).max() < 0.9, "other ids, other vectors"
    for other in (make_spec(pooling="last"), make_spec(attention="causal")):
        assert (np.sum(vectors * embed_list(HashEngine(other), sequences), axis=1) < 0.9).all()
    raw = embed_list(HashEngine(make_spec(normalize=False)), sequences)
    assert (np.abs(np.linalg.norm(raw, axis=1) - 1) > 0.1).any()


def test_hash_vectors_stay_the_same_for_ever() -> None:
    """Tests of other rooms keep lakes made with it."""
    vector = embed_list(HashEngine(make_spec()), [(0, 5, 1)])[0]
    assert hashlib.sha256(np.round(vector, 4).astype("<f4").tobytes()).hexdigest()[:12] == "ac99910c75ce"


def test_the_byte_tokenizer_keeps_every_character() -> None:
    tokenizer = byte_tokenizer()
    for text in [*CANARY_TEXTS, "\x00\x7f\u2028 \U0001f600"]:
        encoding = tokenizer.encode(text)
        assert len(encoding.ids) == len(text.encode()) + 2
        assert tokenizer.decode(encoding.ids) == text


def test_embed_list_raises_what_the_engine_refuses_and_closes_it() -> None:
    closed = []

    class Refusing(CountingEngine):
        def embed(self, source):  # type: ignore[no-untyped-def]
            try:
                yield (0, 0), np.zeros(DIMENSION, dtype=np.float32)
                yield (0, 1), "engine: too long"
            finally:
                closed.append(True)

    with pytest.raises(ValueError, match="too long"):
        embed_list(Refusing(make_spec()), [(1,), (2,)])
    assert closed == [True]


def test_a_list_source_ends() -> None:
    source = ListSource([(1,), (2,)])
    assert [source.take(True), source.take(False), source.take(True)] == [((0, 0), (1,)), ((0, 1), (2,)), None]
    assert source.exhausted


def test_a_loaded_model_has_canaries_of_its_space() -> None:
    one, two = load_model(make_spec(max_tokens=200)), load_model(make_spec(max_tokens=200))
    assert one.canaries.dimension == DIMENSION and len(one.canaries.vectors) == len(CANARY_TEXTS)
    assert one.canaries.worst_cosine(two.canaries) == pytest.approx(1)
    assert one.canaries.worst_cosine(load_model(make_spec(max_tokens=200, pooling="cls")).canaries) < 0.999
    prompted = load_model(make_spec(max_tokens=200, prompts={"document": "p: "}))
    assert one.canaries.worst_cosine(prompted.canaries) < 0.999, "the document prompt is part of the space"


def test_query_texts() -> None:
    model = load_model(make_spec())
    vectors = model.embed_texts(["one", "two", "one"], "q: ")
    assert vectors.shape == (3, DIMENSION)
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert not np.allclose(vectors[0], model.embed_texts(["one"], "")[0])
    with pytest.raises(ValueError, match="no tokens"):
        model.embed_texts(["fine", ""], "q: ")


def test_references_hold_the_model_to_known_vectors() -> None:
    vector = load_model(make_spec()).embed_texts(["known"], "")[0].tolist()
    load_model(make_spec(references=[{"text": "known", "vector": vector}, {"text": "known", "vector": vector[:16]}]))
    with pytest.raises(BadJob, match=r"another vector for 'known'.*cosine .*nothing was embedded"):
        load_model(make_spec(references=[{"text": "known", "vector": vector[::-1]}]))
    with pytest.raises(BadJob, match="another vector"):
        load_model(make_spec(pooling="last", references=[{"text": "known", "vector": vector}]))
    with pytest.raises(BadJob, match="64 components"):
        load_model(make_spec(references=[{"text": "known", "vector": vector * 2}]))


# -- before the engine ------------------------------------------------------------------------------


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


def test_a_whole_model_gets_as_far_as_the_engine(folder: Path) -> None:
    with pytest.raises(ImportError, match=r"embed_worker\.engine\.vllm"):
        load_model(spec_of(folder))


def test_a_missing_model_says_where_it_should_be(tmp_path: Path) -> None:
    message = refusal(spec_of(tmp_path / "nowhere"))
    assert str(tmp_path / "nowhere") in message and "a/b" in message


def test_weights_with_another_digest(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"Weights")
    message = refusal(spec_of(folder))
    assert "model.safetensors" in message and hashlib.sha256(b"Weights").hexdigest() in message


def test_a_pinned_file_that_is_missing(folder: Path) -> None:
    message = refusal(spec_of(folder, sha256={"model-00001-of-00002.safetensors": "00" * 32}))
    assert "model-00001-of-00002.safetensors is missing" in message


def test_pickled_weights_are_not_loaded(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "no *.safetensors" in refusal(spec_of(folder, sha256={}))


def test_no_tokenizer_and_a_broken_one(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")
    assert "tokenizer.json cannot be read" in refusal(spec_of(folder))
    (folder / "tokenizer.json").unlink()
    assert "has no tokenizer.json" in refusal(spec_of(folder))


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
            models.check_pooling(spec, folder)
        else:
            assert f"declares {declared}" in refusal(spec)


def test_a_model_that_declares_no_pooling_takes_any(folder: Path) -> None:
    (folder / "modules.json").unlink()
    models.check_pooling(spec_of(folder, pooling="last"), folder)


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
    test_a_whole_model_gets_as_far_as_the_engine(folder)


def test_a_model_that_lowers_nothing_keeps_its_capitals(folder: Path) -> None:
    (folder / "sentence_bert_config.json").write_bytes(orjson.dumps({"max_seq_length": 64, "do_lower_case": False}))
    test_a_whole_model_gets_as_far_as_the_engine(folder)


def test_more_tokens_than_the_model_declares(folder: Path) -> None:
    config = folder / "sentence_bert_config.json"
    config.write_bytes(orjson.dumps({"max_seq_length": 63}))
    assert "max_seq_length 63; write max_tokens: 63" in refusal(spec_of(folder, max_tokens=64))
    config.write_bytes(orjson.dumps({"max_seq_length": None}))
    test_a_whole_model_gets_as_far_as_the_engine(folder)
    config.write_text("[1]")
    assert f"{config} cannot be read" in refusal(spec_of(folder))
