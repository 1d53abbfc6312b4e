"""Manifests: they add up, they read back, and what is none is named."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from embed_worker.lake.errors import BadManifest
from embed_worker.lake.files import FileRef, digest_of_files
from embed_worker.lake.layout import Partitioning, ShardId
from embed_worker.lake.manifests import Canaries, InputRef, ShardManifest, read_manifest
from embed_worker.lake.snapshots import RawManifest, RawPart
from embed_worker.lake.store import Store
from tests.kits.attempt.jobs import make_spec

FILE = FileRef(path="part-00000.parquet", rows=9, bytes=100, sha256="ab" * 32)


def shard(**changes: Any) -> dict[str, Any]:
    spec = make_spec()
    values: dict[str, Any] = {
        "pipeline": "reviews",
        "shard": ShardId.of("books", spec.spec_id, Partitioning("stride", 10), 3, "d1"),
        "spec": spec,
        "input": InputRef(path="x", digest="d1", rows=10),
        "files": [FILE],
        "rows_in": 10,
        "rows_embedded": 8,
        "rows_rejected": 2,
        "rejects_by_reason": {"no tokens": 1, "blank text": 1},
        "windows": 9,
        "tokens": 90,
        "duplicate_windows": 0,
        "dimension": 32,
        "dtype": "float32",
        "canaries": None,
        "checkpoint_rows": 4,
        "checkpoints": 3,
        "engine": {},
        "hardware": {},
        "attempts": [],
        "seconds": {},
    }
    return {**values, **changes}


def test_a_shard_manifest_reads_back(lake: str) -> None:
    store = Store(lake)
    manifest = ShardManifest(**shard())
    store.create_json("m.json", manifest.model_dump(mode="json"))
    assert read_manifest(store, "m.json", ShardManifest) == manifest
    assert read_manifest(store, "none.json", ShardManifest) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows_embedded": 9}, "rows_in is not rows_embedded + rows_reused + rows_rejected"),
        ({"rows_in": 11}, "the input is not the shard's"),
        ({"rejects_by_reason": {"no tokens": 1}}, "not the sum of rejects_by_reason"),
        ({"rows_embedded": 7, "rows_rejected": 3}, "not the sum of rejects_by_reason"),
    ],
)
def test_a_shard_manifest_must_add_up(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message.replace("+", r"\+")):
        ShardManifest(**shard(**changes))


def test_a_raw_manifest_must_add_up() -> None:
    part = RawPart(
        part_id="0a", file=FILE, rows=9, first_row=0, read=12, first_record=0, source=0, default_ids=True, digest="0"
    )
    values: dict[str, Any] = {
        "dataset": "b", "ingest_id": "0a", "snapshot": "0a", "source": [], "ingest": {}, "parts": [part],
        "rows_digest": "0",
    }  # fmt: skip
    RawManifest(**values, records=12, rows=9, rejects_by_reason={"x": 2, "y": 1})
    with pytest.raises(ValidationError, match=r"records is not rows \+ rejects"):
        RawManifest(**values, records=12, rows=9, rejects_by_reason={"x": 2})
    with pytest.raises(ValidationError, match="sum of the parts"):
        RawManifest(**values, records=10, rows=10)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"", "is not JSON"),
        (b'{"format": 1, "pipe', "is not JSON"),
        (b"[1, 2]", "the whole"),
        (b'{"format": 1}', "format"),
        (b'{"format": 2, "pipelin": "x"}', "pipeline"),
    ],
)
def test_what_is_no_manifest_is_named_with_file_and_key(lake: str, text: bytes, complaint: str) -> None:
    store = Store(lake)
    store.create("shards/00003/_manifest.json", text)
    with pytest.raises(BadManifest) as caught:
        read_manifest(store, "shards/00003/_manifest.json", ShardManifest)
    assert f"{lake}/shards/00003/_manifest.json" in str(caught.value)
    assert complaint in str(caught.value)


def test_a_wrong_key_deep_inside_is_named(lake: str) -> None:
    store = Store(lake)
    value = ShardManifest(**shard()).model_dump(mode="json")
    value["files"][0]["sha256"] = "no digest"
    store.create_json("m.json", value)
    with pytest.raises(BadManifest, match=r"m\.json: files\.0\.sha256"):
        read_manifest(store, "m.json", ShardManifest)
    value = ShardManifest(**shard()).model_dump(mode="json") | {"surprise": 1}
    store.create_json("n.json", value)
    with pytest.raises(BadManifest, match=r"n\.json: surprise"):
        read_manifest(store, "n.json", ShardManifest)


def test_the_data_version_is_of_the_content_alone() -> None:
    base = ShardManifest(**shard())
    same = ShardManifest(
        **shard(created_at="2020-01-01", attempts=[{"attempt": "a"}], seconds={"x": 1.0}, hardware={"cpu": "z"})
    )
    assert same.data_version == base.data_version
    other_file = FILE.model_copy(update={"sha256": "cd" * 32})
    for changes in (
        {"files": [other_file]},
        {"shard": base.shard.model_copy(update={"spec_id": "other"})},
        {
            "input": base.input.model_copy(update={"digest": "0e"}),
            "shard": base.shard.model_copy(update={"input_digest": "0e"}),
        },
    ):
        assert ShardManifest(**shard(**changes)).data_version != base.data_version


def test_a_digest_of_files_depends_on_content_and_order_not_place() -> None:
    other = FILE.model_copy(update={"sha256": "cd" * 32})
    assert digest_of_files([FILE, other]) == digest_of_files([FILE.model_copy(update={"path": "moved"}), other])
    assert digest_of_files([FILE, other]) != digest_of_files([other, FILE])
    assert digest_of_files([FILE]) != digest_of_files([other])


def test_canaries_keep_their_vectors_bit_by_bit() -> None:
    vectors = np.random.default_rng(0).standard_normal((3, 32)).astype(np.float32)
    canaries = Canaries.model_validate_json(Canaries.of(["a", "b", "c"], vectors).model_dump_json())
    np.testing.assert_array_equal(canaries.array(), vectors)
    assert canaries.worst_cosine(canaries) == pytest.approx(1.0)
    assert canaries.worst_cosine(Canaries.of(["a", "b", "c"], vectors * 7)) == pytest.approx(1.0)


def test_canaries_tell_the_worst_text() -> None:
    vectors = np.eye(3, 8, dtype=np.float32)
    turned = vectors.copy()
    turned[1] = [0, 0.6, 0.8, 0, 0, 0, 0, 0]
    one, two = Canaries.of(["a", "b", "c"], vectors), Canaries.of(["a", "b", "c"], turned)
    assert one.worst_cosine(two) == pytest.approx(0.6)


def test_canaries_that_cannot_be_compared_are_at_minus_one() -> None:
    vectors = np.ones((2, 4), dtype=np.float32)
    base = Canaries.of(["a", "b"], vectors)
    assert base.worst_cosine(Canaries.of(["a", "c"], vectors)) == -1
    assert base.worst_cosine(Canaries.of(["a", "b"], np.ones((2, 5), dtype=np.float32))) == -1
    assert base.worst_cosine(Canaries.of(["a", "b"], np.zeros((2, 4), dtype=np.float32))) == -1


@pytest.mark.parametrize("vectors", [[], ["AAAA"], ["not base64!"], ["AAAAAAAAAAA="]])
def test_damaged_canaries_are_refused(vectors: list[str]) -> None:
    with pytest.raises(ValueError):
        Canaries(texts_digest="x", dimension=4, vectors=vectors).array()
