"""A delta as a person has it made in the UI: what is pressed, and which colours are seen then."""

from pathlib import Path
from typing import Any

import pytest

from tests.kits import pipelines as kit
from tests.kits.graphql import GraphQl, graphql
from tests.kits.location import Location

pytestmark = pytest.mark.slow
STANDING = """query($k: AssetKeyInput!, $p: [String!]!) { assetNodeOrError(assetKey: $k) { ... on AssetNode {
  staleStatusByPartition(partitions: $p)
  latestMaterializationByPartition(partitions: $p) { partition runId }
  assetPartitionStatuses { ... on DefaultPartitionStatuses { failedPartitions unmaterializedPartitions } } } } }"""
OF = {
    "raw_reviews": ["d", "d-delta"],
    "stride_partitions": ["d-00000", "d-00001", "d-delta"],
    "embedding_shards": ["d-00000", "d-00001", "d-delta"],
    "embedding_set": ["d"],
    "vector_index": ["d"],
}


def seen(ui: GraphQl) -> dict[tuple[str, str], tuple[str, str]]:
    """(asset, partition) of d → what its square says, and the run that made it."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for asset, partitions in OF.items():
        node: dict[str, Any] = ui.ask(STANDING, k={"path": ["p", asset]}, p=partitions)["assetNodeOrError"]
        assert node["assetPartitionStatuses"]["failedPartitions"] == []
        runs = {one["partition"]: one["runId"] for one in node["latestMaterializationByPartition"] if one}
        for partition, stale in zip(partitions, node["staleStatusByPartition"], strict=True):
            found[asset, partition] = (stale, runs.get(partition, ""))
    return found


def press(ui: GraphQl, asset: str, partition: str) -> None:
    run = ui.launch(["p", asset], partition, partition)
    assert ui.status(run) == "SUCCESS", ui.messages(run)[-3:]


def test_the_bases_squares_stay_as_they_are(tmp_path: Path) -> None:
    location = Location(tmp_path)
    with graphql(location) as ui:
        assert ui.status(ui.launch_job("p__update")) == "SUCCESS"
        before = seen(ui)
        assert {stale for stale, _ in before.values()} == {"FRESH"}
        kit.write_jsonl(tmp_path / "a.jsonl", [*kit.texts(8), {"text": "of today"}])
        for asset in ("raw_reviews", "stride_partitions", "embedding_shards"):
            press(ui, asset, "d-delta")
        after = seen(ui)
        made = {square for square in after if after[square][1] != before[square][1]}
        assert made == {(asset, "d-delta") for asset in OF if "d-delta" in OF[asset]} | {("embedding_set", "d")}
        assert {square for square, (stale, _) in after.items() if stale != "FRESH"} == {("vector_index", "d")}
        press(ui, "vector_index", "d")
        assert {stale for stale, _ in seen(ui).values()} == {"FRESH"}
        config = {"ops": {"p__update_op": {"config": {"rebase": "never"}}}}  # one row in eight: it would be one
        assert ui.metadata([ui.launch_job("p__update", config=config)]).keys() == {"e-delta"}, "of d nothing is due"
