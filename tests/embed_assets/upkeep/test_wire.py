"""`verify` reads each file once, and says the bytes that came over the wire."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from embed_assets.upkeep.verify import verify_lake
from embed_worker.lake import layout
from embed_worker.lake.seal import sealed
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
    kit.write_jsonl(source, [*kit.texts(200), {"key": "x", "text": ""}])
    made = Prepared(s3_root, str(source), strides=2)
    for stride in range(2):
        made.embed(stride, checkpoint_rows=50)
    listed = {file.path: file.bytes for file in made.store.listing("") if file.path.endswith((".parquet", ".arrow"))}
    assert len(listed) == 5
    wire.clear()
    report = verify_lake(made.store)
    assert report.damages == [] and report.shards == 2
    assert report.bytes == sum(size for _, size in wire)
    read = {path: sum(size for key, size in wire if key.endswith(path)) for path in listed}
    assert read == listed


def test_a_strides_rows_are_held_against_their_digest(lake: Path, source: Path) -> None:
    made = Prepared(lake, str(source))
    one, two, three = made.strides.strides
    moved = [one.model_copy(update={"digest": two.digest}), two.model_copy(update={"digest": one.digest}), three]
    path = layout.cut_file(made.strides.folder, made.raw.snapshot)
    cut = made.strides.model_copy(update={"strides": moved})
    (lake / path).write_bytes(sealed(path, cut.model_dump(mode="json")))
    damages = verify_lake(made.store).damages
    told = {damage.what for damage in damages if damage.where == path}
    assert told == {f"stride {stride}: its rows are not those of the slices" for stride in (0, 1)}
    assert made.store.list(".tmp") == []
