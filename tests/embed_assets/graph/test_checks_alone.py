"""Runs of the checks alone."""

from typing import Any

import pytest

from embed_assets.checks.shard import SHARD_CHECKS
from embed_assets.checks.source import RAW_CHECKS
from embed_assets.checks.strides import STRIDE_CHECKS
from tests.kits.graph_bench import CHECK, RAW, SHARDS, STRIDES, GraphBench

pytestmark = pytest.mark.slow


def test_checks_alone_for_one_partition(bench: GraphBench) -> None:
    bench.all()
    bench.python = "/nowhere/python"
    for key, partition, names in [
        (RAW, "a", RAW_CHECKS),
        (STRIDES, "b-00001", STRIDE_CHECKS),
        (SHARDS, "b-00001", SHARD_CHECKS),
    ]:
        run = bench.check(key, partition=partition)
        assert run.success
        assert bench.made(run) == {}
        assert bench.checks(run) == {partition: dict.fromkeys(names, True)}


def test_checks_alone_without_a_partition_check_all_that_are_materialized(bench: GraphBench) -> None:
    bench.prepare()
    assert bench.run(SHARDS, "a-00000", "a-00001").success
    run = bench.check(RAW, STRIDES, SHARDS)
    assert run.success
    per_asset: dict[Any, set[str]] = {}
    for event in bench.events(run, CHECK):
        evaluation = event.asset_check_evaluation_data
        assert evaluation.passed
        per_asset.setdefault(evaluation.asset_key, set()).add(evaluation.partition)
    assert per_asset == {RAW: set(bench.snapshots()), STRIDES: set(bench.partitions()), SHARDS: {"a-00000", "a-00001"}}


def test_checks_alone_see_what_has_gone_from_the_lake(bench: GraphBench) -> None:
    bench.all()
    for pattern in ("raw_reviews/*/*/snapshots/*.json", "stride_partitions/*/*/*/*.json", "**/_manifest.json"):
        for path in bench.lake.glob(pattern):
            path.unlink()
    for key in (RAW, STRIDES, SHARDS):
        run = bench.check(key)
        found = bench.checks(run)
        assert found
        assert not any(passed for checks in found.values() for passed in checks.values())


def test_checks_alone_survive_partitions_of_an_older_pipeline(bench: GraphBench) -> None:
    bench.all()
    bench.strides = {"a": 2, "b": 2}
    bench.prepare()
    assert bench.embed().success
    run = bench.check(STRIDES, SHARDS)
    assert run.success
    partitions = {event.asset_check_evaluation_data.partition for event in bench.events(run, CHECK)}
    assert partitions == set(bench.partitions())
