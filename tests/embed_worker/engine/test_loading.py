"""The hash engine, and what is checked of a model before its engine is loaded."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from embed_worker.engine.base import ListSource, embed_list
from embed_worker.engine.hash import DIMENSION, HashEngine, byte_tokenizer
from embed_worker.engine.loading import CANARY_TEXTS, load_model
from embed_worker.errors import BadJob
from tests.kits.attempt.jobs import CountingEngine, make_spec
from tests.kits.model_folder import folder, refusal, spec_of

__all__ = ["folder"]


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
