"""From `create-dagster` to vectors and what reads them: a new project, this Component, and everything launched by `dg`."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kits import ROOT
from tests.kits.dg_neighbours import PARTITIONS, damage, lengths, neighbourhood
from tests.kits.dg_project import DgProject
from tests.kits.processes import wait_until
from tests.kits.webhook import Webhook

pytestmark = pytest.mark.slow
FIRST, SECOND, LAST = PARTITIONS


@pytest.fixture(scope="module")
def webhook() -> Iterator[Webhook]:
    with Webhook() as found:
        yield found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, webhook: Webhook) -> DgProject:
    return neighbourhood(tmp_path_factory.mktemp("dg"), webhook.url)


def test_dg_lists_what_it_checks(project: DgProject) -> None:
    assert "All definitions loaded successfully" in project.dg("check", "defs")
    listed = json.loads(project.dg("list", "defs", "--json"))
    assets = {asset["asset_key"]: asset for asset in listed["assets"]}
    ours = ("raw_reviews", "stride_partitions", "embedding_shards", "embedding_set", "vector_index")
    assert {"warehouse/tickets", "reports/lengths", *(f"search/{name}" for name in ours)} <= assets.keys()
    assert assets["search/raw_reviews"]["dependency_keys"] == ["warehouse/tickets"]
    assert assets["reports/lengths"]["dependency_keys"] == ["search/embedding_set"]
    assert {"tickets__update", "tickets__check"} <= {job["name"] for job in listed["jobs"]}
    assert [one["name"] for one in listed["schedules"]] == ["nightly"]
    assert [one["name"] for one in listed["sensors"]] == ["embed_check_alerts"]
    components = project.dg("list", "components", "--json")
    assert "embed_assets.EmbeddingPipelineComponent" in components and "embed_assets.DeploymentComponent" in components


def test_dg_launches_a_partition_and_a_range(project: DgProject) -> None:
    project.dg("launch", "--assets", "key:warehouse/tickets")
    project.dg("launch", "--assets", "key:search/raw_reviews", "--partition", "tickets")
    project.dg("launch", "--assets", "key:search/stride_partitions", "--partition-range", f"{FIRST}...{LAST}")
    project.dg("launch", "--assets", "key:search/embedding_shards", "--partition", FIRST)
    assert project.materialized("search", "embedding_shards") == {FIRST}
    project.dg("launch", "--assets", "key:search/embedding_shards", "--partition-range", f"{SECOND}...{LAST}")
    assert project.materialized("search", "embedding_shards") == {FIRST, SECOND, LAST}
    project.dg("launch", "--assets", "key:search/embedding_set", "--partition", "tickets")
    project.dg("launch", "--assets", "key:search/vector_index", "--partition", "tickets")
    assert project.materialized("search", "vector_index") == {"tickets"}
    assert list(Path(project.lake).glob("vector_index/*/tickets.lance"))


@pytest.fixture(scope="module")
def updated(project: DgProject) -> DgProject:
    """After the update job, whatever was there before."""
    project.dg("launch", "--assets", "key:warehouse/tickets")
    project.dg("launch", "--job", "tickets__update")
    return project


def test_dg_launches_the_update_and_what_reads_its_vectors(updated: DgProject) -> None:
    """Of a project that has nothing yet, and of one where all is there."""
    for again in (False, True):
        if again:
            updated.dg("launch", "--job", "tickets__update")
        assert updated.materialized("search", "embedding_shards") == {*PARTITIONS, "tickets-delta"}
        assert updated.materialized("search", "vector_index") == {"tickets"}
    updated.dg("launch", "--assets", "key:reports/lengths", "--partition", "tickets")
    assert updated.latest("reports", "lengths", partition="tickets")["lengths"] == lengths()


def test_the_alert_sensor_tells_of_the_red_check_and_of_no_other(updated: DgProject, webhook: Webhook) -> None:
    """Evaluated in the project's code server, as the daemon does; the daemon is in tests/e2e/test_dg_neighbours.py."""

    def told() -> bool:
        tick = ("dagster", "sensor", "preview", "embed_check_alerts", "--cursor", "0", "-m", "project.definitions")
        return "1 red checks told" in updated.call(*tick, cwd=updated.root)

    damage(updated, SECOND)
    updated.dg("launch", "--job", "tickets__check")
    wait_until(told, "the red check is told")  # it waits 5 s for its turn
    (alert,) = webhook.posted
    assert (alert["pipeline"], alert["asset"]) == ("tickets", "search/embedding_shards")
    assert (alert["partition"], alert["check"]) == (SECOND, "files_intact")


def test_dg_works_in_this_repository(project: DgProject) -> None:
    assert "All definitions loaded successfully" in project.call("dg", "check", "defs", cwd=ROOT)
