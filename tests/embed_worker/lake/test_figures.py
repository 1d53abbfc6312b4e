"""A shard's figures: one reckoning, whoever shows them."""

import pytest

from embed_worker.lake.figures import figures_of
from embed_worker.lake.manifests import ShardManifest
from tests.kits.lake.shards import shard_manifest


def shard(**changes: object) -> ShardManifest:
    """1,000 windows of 10 tokens, 40 % of them known before, in 100 seconds of the engine."""
    figures = {"rows_in": 500, "rows_embedded": 500, "windows": 1000, "tokens": 10_000, "duplicate_windows": 400}
    return shard_manifest(**{**figures, "seconds": {"engine": 100.0}, **changes})


def test_what_was_not_computed_took_no_time() -> None:
    figures = figures_of(shard())
    assert (figures.computed_tokens, figures.engine_seconds) == (6000, 100)
    assert (figures.tokens_per_second, figures.rows_per_second) == (60, 5)


def test_eight_engines_of_a_node_are_one_start_and_eight_times_as_fast() -> None:
    attempts = [{"attempt": f"a{lane}", "lane": f"{lane} of 8"} for lane in range(1, 9)]
    figures = figures_of(shard(attempts=attempts, hardware={"gpus": ["NVIDIA L4"] * 8, "engines": 8}))
    assert (figures.starts, figures.machine) == (1, "8× NVIDIA L4")
    assert (figures.engine_seconds, figures.tokens_per_second, figures.rows_per_second) == (12.5, 480, 40)


def test_a_second_start_on_another_node_counts() -> None:
    attempts = [
        {"attempt": "a", "lane": "1 of 2", "region": "us-east4", "price_per_hour": 0.3},
        {"attempt": "b", "lane": "2 of 2", "region": "us-east4"},
        {"attempt": "c", "region": "us-west1"},
        {"attempt": "d", "lane": "10 of 12"},
    ]
    figures = figures_of(shard(attempts=attempts, hardware={"cores": 8}))
    assert (figures.starts, figures.region, figures.price_per_hour) == (2, "us-west1", 0.3)
    assert figures.machine == "CPU, 8 cores"


@pytest.mark.parametrize("changes", [{"seconds": {}}, {"seconds": {"engine": 0.0}}, {"duplicate_windows": 1001}])
def test_a_rate_that_cannot_be_told_is_not_told(changes: dict[str, object]) -> None:
    figures = figures_of(shard().model_copy(update=changes))
    assert figures.tokens_per_second is None and figures.computed_tokens >= 0
