"""`dagster asset materialize`: what it makes, and the one sentence it answers with where it makes nothing."""

from pathlib import Path

import pytest

from tests.kits.dagster_cli import materialize
from tests.kits.docs_code import PAGE
from tests.kits.location import Location

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::dagster.SupersessionWarning")]
ALL = {f"{name}-{stride}" for name in "de" for stride in ("00000", "00001")}


@pytest.fixture
def location(tmp_path: Path) -> Location:
    return Location(tmp_path)


def test_partitions_ranges_and_neighbours_of_one_kind(location: Location) -> None:
    assert materialize(location, "--select", "p/raw_reviews", "--partition", "d") == ""
    assert materialize(location, "--select", "key:p/raw_reviews", "--partition-range", "d...e") == ""
    both = "p/stride_partitions,p/embedding_shards"
    assert materialize(location, "--select", both, "--partition-range", "d-00000...e-00000") == ""
    assert location.materialized("embedding_shards") == ALL - {"e-00001"}
    assert materialize(location, "--select", "key:p/stride_partitions+1", "--partition", "e-00001") == ""
    assert location.materialized("embedding_shards") == ALL
    assert materialize(location, "--select", "p/embedding_set,p/vector_index", "--partition-range", "d...e") == ""
    assert location.materialized("vector_index") == {"d", "e"}


@pytest.mark.parametrize(
    "arguments", [["key:p/raw_reviews"], ["group:p"], ["p/stride_partitions,p/embedding_shards"]], ids=" ".join
)
def test_without_a_partition_dagster_says_so(location: Location, arguments: list[str]) -> None:
    refused = materialize(location, "--select", *arguments)
    assert refused == "Failure condition: Asset has partitions, but no '--partition' option was provided"
    assert refused.removeprefix("Failure condition: ") in PAGE


@pytest.mark.parametrize("how", [["--partition", "d"], ["--partition-range", "d-00000...d-00001"]], ids=" ".join)
def test_a_group_has_two_kinds_of_partitions(location: Location, how: list[str]) -> None:
    refused = materialize(location, "--select", "group:p", *how)
    assert refused == "Failure condition: There is no PartitionsDefinition shared by all the provided assets"
    assert refused.removeprefix("Failure condition: ") in PAGE


def test_a_range_of_a_pipeline_that_needs_several_runs(location: Location) -> None:
    refused = materialize(
        location, "--select", "p/embedding_shards", "--partition-range", "d-00000...d-00001", per_run=3
    )
    said = "Partition ranges with the CLI require all selected assets to have a BackfillPolicy.single_run() policy"
    assert said in refused and said in PAGE
    assert location.materialized("embedding_shards") == set()


def test_a_range_that_ends_before_it_begins_is_not_green(location: Location) -> None:
    assert materialize(location, "--select", "p/raw_reviews", "--partition-range", "d...e") == ""
    refused = materialize(location, "--select", "p/stride_partitions", "--partition-range", "d-00001...d-00000")
    assert refused == "the range d-00001...d-00000 holds no partition: its end stands before its start"


def test_what_is_not_there_yet_is_named_with_the_way(location: Location) -> None:
    refused = materialize(location, "--select", "p/embedding_shards", "--partition", "d-00000")
    assert "raw_reviews of d is not in" in refused and refused.endswith("materialize it first")
