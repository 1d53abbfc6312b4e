"""`verify` reads each file once, and says the bytes that came over the wire."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from embed_assets.upkeep.verify import verify_lake
from embed_worker.steps.cut import DIGEST_ROWS
from tests.kits import pipelines as kit
from tests.kits.pipelines import Prepared


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, int]]]:
    """(object, bytes) of every answer with an object's content that this process gets from S3."""
    from aiobotocore.client import AioBaseClient

    real, got = AioBaseClient._make_api_call, list[tuple[str, int]]()

    async def counting(self: Any, operation: str, arguments: Any) -> Any:
        answer = await real(self, operation, arguments)
        if operation == "GetObject":
            got.append((arguments["Key"], answer["ContentLength"]))
        return answer

    monkeypatch.setattr(AioBaseClient, "_make_api_call", counting)
    yield got


def test_each_byte_of_a_bucket_comes_once_and_is_counted(
    s3_root: str, source: Path, wire: list[tuple[str, int]]
) -> None:
    kit.write_jsonl(source, [*kit.texts(3 * DIGEST_ROWS + 70), {"key": "x", "text": ""}])
    made = Prepared(s3_root, str(source), strides=2)  # a stride of more than one block of its digest
    for stride in range(2):
        made.embed(stride, checkpoint_rows=5000)
    listed = {file.path: file.bytes for file in made.store.listing("") if file.path.endswith(".parquet")}
    assert len(listed) == 6
    wire.clear()
    report = verify_lake(made.store)
    assert report.damages == [] and report.shards == 2
    assert report.bytes == sum(size for _, size in wire)
    read = {path: sum(size for key, size in wire if key.endswith(path)) for path in listed}
    assert read == listed


def test_a_strides_rows_are_held_against_their_digest_in_the_same_pass(lake: Path, source: Path) -> None:
    made = Prepared(lake, str(source))
    entry = made.strides.strides[1].model_copy(update={"digest": "0" * 16})
    strides = made.strides.model_copy(update={"strides": [made.strides.strides[0], entry, made.strides.strides[2]]})
    path = f"stride_partitions/d/{made.partitioning.name}/_manifest.json"
    from embed_worker.lake.seal import sealed

    (lake / path).write_bytes(sealed(path, strides.model_dump(mode="json")))
    [damage] = verify_lake(made.store).damages
    assert damage.where.endswith("/00001") and "not those that the manifest's digest names" in damage.what
    assert made.store.list(".tmp") == []
