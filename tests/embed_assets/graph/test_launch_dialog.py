"""The launch dialog: what it offers, what it says of that, what it refuses before a run begins."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kits.graphql import GraphQl, graphql
from tests.kits.location import Location

pytestmark = pytest.mark.slow
SHARDS = {"force": False, "max_attempts": None, "budget_usd": None}
OFFERED: dict[str, dict[str, Any]] = {
    "raw_reviews": {"sample_rows": None, "force": False, "confirm": False},
    "embedding_shards": SHARDS,
    "update": {**SHARDS, "sample_rows": None, "datasets": [], "only": "due", "rebase": "auto", "confirm": False},
    "check": {"datasets": [], "sample": None},
}
"""Keys with their defaults."""


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> Location:
    return Location(tmp_path_factory.mktemp("location"))


@pytest.fixture(scope="module")
def ui(location: Location) -> Iterator[GraphQl]:
    with graphql(location) as found:
        yield found


def of(what: str) -> tuple[str, str, list[str] | None]:
    """Job, op and asset."""
    job = what in ("update", "check")
    return (f"p__{what}", f"p__{what}_op", None) if job else ("__ASSET_JOB", f"p__{what}", ["p", what])


@pytest.mark.parametrize("what", OFFERED)
def test_each_key_is_there_with_its_default_and_its_description(ui: GraphQl, what: str) -> None:
    found = ui.config_of(*of(what))
    assert {name: json.loads(one["defaultValueAsJson"] or "null") for name, one in found.items()} == OFFERED[what]
    for name, one in found.items():
        assert not one["isRequired"] and len(one["description"] or "") > 20, name


@pytest.mark.parametrize(
    ("what", "config", "says"),
    [
        ("embedding_shards", {"forse": True}, r'unexpected config entry "forse" .* Expected: "{ budget_usd\?: .* force\?: '),
        ("embedding_shards", {"force": "yes"}, r'config:force. Value "yes" .* is not valid for expected type "Bool"'),
        ("embedding_shards", {"max_attempts": 1.5}, r'config:max_attempts. Value "1.5" .* expected type "Int"'),
        ("embedding_shards", {"budget_usd": "ten"}, r'config:budget_usd. Value "ten" .* expected type "Float"'),
        ("raw_reviews", {"sample_rows": "10"}, r'config:sample_rows. Value "10" .* expected type "Int"'),
        ("update", {"only": "all"}, r"config:only not in enum type .*'due', 'missing', 'failed'.* got all"),
        ("update", {"datasets": "d"}, r"config:datasets must be list"),
        ("check", {"sample": "all"}, r'config:sample. Value "all" .* expected type "Int"'),
    ],
)  # fmt: skip
def test_a_wrong_key_or_type_is_refused_before_a_run_begins(
    ui: GraphQl, what: str, config: dict[str, Any], says: str
) -> None:
    job, op, asset = of(what)
    (told,) = ui.refused(job, {"ops": {op: {"config": config}}}, asset)
    assert re.search(says, told), told


@pytest.mark.parametrize(
    ("what", "config", "says"),
    [
        ("raw_reviews", {"sample_rows": 0}, "sample_rows should be greater than or equal to 1 (got 0)"),
        ("embedding_shards", {"max_attempts": 0}, "max_attempts should be greater than or equal to 1 (got 0)"),
        ("embedding_shards", {"budget_usd": -1.0}, "budget_usd should be greater than 0 (got -1.0)"),
        ("update", {"sample_rows": -5, "budget_usd": 0.0},
         "budget_usd should be greater than 0 (got 0.0); sample_rows should be greater than or equal to 1 (got -5)"),
        ("check", {"sample": 0}, "sample should be greater than or equal to 1 (got 0)"),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_one_sentence_of_the_run(
    ui: GraphQl, location: Location, what: str, config: dict[str, Any], says: str
) -> None:
    """Dagster's schema knows no ranges."""
    job, op, asset = of(what)
    tags = {"dagster/partition": "d" if what == "raw_reviews" else "d-00000"} if asset else {}
    run = ui.launch_job(job, [asset] if asset else None, tags, {"ops": {op: {"config": config}}})
    assert ui.status(run) == "FAILURE" and location.failure() == says


def test_what_is_offered_is_taken(ui: GraphQl, location: Location) -> None:
    everything = {
        "datasets": ["d"],
        "only": "due",
        "force": True,
        "sample_rows": 3,
        "budget_usd": 1.0,
        "max_attempts": 1,
    }
    run = ui.launch_job("p__update", config={"ops": {"p__update_op": {"config": everything}}})
    assert ui.status(run) == "SUCCESS", ui.messages(run)[-5:]
    assert location.materialized("vector_index") == {"d"}
