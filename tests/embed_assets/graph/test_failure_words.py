"""What a run that fails says of the partitions that have not."""

import pytest

from tests.kits.graph_bench import RAW, SHARDS, GraphBench

pytestmark = pytest.mark.slow

REST = "The others are committed; re-executing does only the rest"


def test_where_all_have_failed_there_are_no_others(bench: GraphBench) -> None:
    for run, count in ((bench.embed(), 7), (bench.run(SHARDS, "a-00000"), 1)):
        said = bench.failure(run).description
        assert said.startswith(f"{count} of {count} partitions failed; first a-00000: ") and REST not in said
    bench.sources["b"].unlink()
    said = bench.failure(bench.run(RAW, "b")).description
    assert said.startswith("1 of 1 partitions failed; first b: ") and REST not in said


def test_the_others_are_named_where_there_are_some(bench: GraphBench) -> None:
    bench.prepare()
    bench.break_input("b-00001")
    run = bench.embed()
    said = bench.failure(run).description
    assert said.startswith("1 of 7 partitions failed; first b-00001: ") and said.endswith(REST)
    assert len(bench.made(run)) == 6
