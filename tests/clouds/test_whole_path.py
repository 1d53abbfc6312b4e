"""A pipeline with its lake in Google's and Azure's stores, from source to set, twice: nothing is made again."""

from pathlib import Path

import dagster as dg
import pytest

from embed_assets.upkeep.gc import find_garbage
from embed_assets.upkeep.status import pipeline_status
from embed_assets.upkeep.verify import verify_lake
from embed_worker.lake.sets import current_set
from embed_worker.lake.store import Store
from tests.kits import pipelines as kit
from tests.kits.graph_bench import MATERIALIZATION, GraphBench

pytestmark = pytest.mark.clouds


def test_from_source_to_set_and_a_delta(root: str, tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        bench = GraphBench(tmp_path, instance)
        bench.lake, bench.ingest = root, {"id": "{key}"}  # type: ignore[assignment]
        run = bench.update()
        assert run.success, bench.log(run)
        again = bench.update()
        assert again.success and bench.events(again, MATERIALIZATION) == []
        kit.write_jsonl(bench.sources["b"], kit.texts(21, 100))
        assert bench.update(rebase="never").success
        store, pipeline = Store(root), kit.pipeline([bench.dataset(name) for name in "ab"])
        found = current_set(store, "b", pipeline.embedding.spec_id, bench.dataset("b").ingest_id)
        assert found is not None and found.rows == 21 and found.delta is not None
        report = verify_lake(store)
        assert report.damages == [] and report.shards == 6
        assert [status.rows for status in pipeline_status(store, pipeline)] == [20, 20]
        assert not [one for one in find_garbage(store, {"a": 1, "b": 1}) if "part-" in str(one)]
