"""A `dg` project under a real webserver and daemon: everything launched by the UI's own GraphQL, the sensor by the daemon."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kits.dg_neighbours import PARTITIONS, STRIDES, damage, lengths, neighbourhood
from tests.kits.e2e.browser import dagster_dev
from tests.kits.e2e.dagster_api import DONE, Dagster
from tests.kits.processes import wait_until
from tests.kits.webhook import Webhook

pytestmark = [pytest.mark.e2e]
SHARDS, INDEX, SENSOR = ["search", "embedding_shards"], ["search", "vector_index"], "embed_check_alerts"
SAMPLE = 12


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as found:
        yield found


def succeeds(dagster: Dagster, run: str) -> None:
    wait_until(lambda: dagster.status(run) in DONE, f"the end of run {run}")
    assert dagster.status(run) == "SUCCESS", "\n".join(dagster.messages(run)[-20:])


def test_launched_from_the_ui_and_watched_by_the_daemon(tmp_path: Path, webhook: Webhook) -> None:
    project = neighbourhood(tmp_path, webhook.url)
    with dagster_dev(project, "-m", "project.definitions") as url:
        dagster = Dagster(url, project.home)
        dagster.start_sensor(SENSOR)
        assert dagster.standing(SHARDS)["pools"] == ["gpus"]
        succeeds(dagster, dagster.launch_job("__ASSET_JOB", [["warehouse", "tickets"]]))

        assert dagster.would_launch("nightly") == ["tickets__update"]
        config = {"ops": {"tickets__update_op": {"config": {"datasets": ["tickets"], "sample_rows": SAMPLE}}}}
        succeeds(dagster, dagster.launch_job("tickets__update", config=config))
        assert project.latest(*INDEX, partition="tickets")["dagster/partition_row_count"] >= SAMPLE
        backfill = dagster.backfill(SHARDS, PARTITIONS)
        wait_until(lambda: dagster.backfill_status(backfill).startswith("COMPLETED"), "the backfill's end")
        assert dagster.backfill_status(backfill) == "COMPLETED_SUCCESS"
        assert dagster.metadata(dagster.runs(backfill)).keys() == set(PARTITIONS)
        green = {"numPartitions": STRIDES + 1, "numMaterialized": STRIDES + 1, "numFailed": 0}  # the delta, too
        assert dagster.standing(SHARDS)["partitionStats"] == green
        assert dagster.standing(INDEX, "tickets")["staleStatus"] == "FRESH"
        succeeds(dagster, dagster.launch(["reports", "lengths"], "tickets", "tickets"))
        assert project.latest("reports", "lengths", partition="tickets")["lengths"] == lengths(SAMPLE)
        assert not webhook.posted

        damage(project, PARTITIONS[1])
        succeeds(dagster, dagster.launch_job("tickets__check"))
        wait_until(lambda: webhook.posted, "the alert")
        # The ticks after it tell nothing.
        wait_until(lambda: dagster.ticks(SENSOR)[0]["skipReason"] == "no red check", "a tick after the alert")
        (alert,) = webhook.posted
        assert (alert["asset"], alert["partition"]) == ("search/embedding_shards", PARTITIONS[1])
        assert alert["check"] == "files_intact" and dagster.status(alert["run_id"]) == "SUCCESS"
        assert {tick["status"] for tick in dagster.ticks(SENSOR)} <= {"SKIPPED", "STARTED"}
