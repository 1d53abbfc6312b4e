"""What launches the update by itself."""

import json
import os
import time
from typing import Any

import dagster as dg
import pytest
from pydantic import ValidationError

from resources.lake import Lake
from tests.kits import pipelines as kit
from tests.kits.graph_bench import CHECK, RAW, SHARDS, STRIDES, GraphBench

pytestmark = pytest.mark.slow


def settle(bench: GraphBench, *names: str) -> None:
    """Files that are old enough for their time to prove them."""
    for name in names:
        os.utime(bench.sources[name], (time.time() - 60, time.time() - 60))


def tick(bench: GraphBench, cursor: str | None) -> Any:
    repository = bench.definitions().get_repository_def()
    resources = {"lake": Lake(str(bench.lake))}
    with dg.build_sensor_context(bench.instance, cursor, repository_def=repository, resources=resources) as context:
        return repository.get_sensor_def("p__sources").evaluate_tick(context)


def asked(found: Any) -> list[list[str]]:
    return [request.run_config["ops"]["p__update_op"]["config"]["datasets"] for request in found.run_requests]


def test_the_sensor_asks_for_the_datasets_whose_files_have_changed(bench: GraphBench) -> None:
    bench.more = {"automation": "sensor"}
    settle(bench, "a", "b")
    first = tick(bench, None)
    assert asked(first) == [["a", "b"]], "nothing is taken yet"
    assert bench.update().success
    assert asked(tick(bench, first.cursor)) == [] == asked(tick(bench, None)), "it is as the latest snapshot"
    kit.write_jsonl(bench.sources["b"], kit.texts(21, 100))
    settle(bench, "b")
    changed = tick(bench, first.cursor)
    assert asked(changed) == [["b"]] and asked(tick(bench, changed.cursor)) == []
    bench.sources["a"].unlink()
    kit.write_jsonl(bench.sources["b"], kit.texts(22, 100))
    assert asked(tick(bench, changed.cursor)) == [["b"]], "a source that is gone does not hold up the other"
    assert set(json.loads(changed.cursor)) == {"a", "b"}


def test_the_sensor_waits_while_an_update_runs(bench: GraphBench) -> None:
    bench.more = {"automation": "sensor"}
    run = bench.instance.create_run_for_job(
        bench.definitions().resolve_job_def("p__update"), status=dg.DagsterRunStatus.STARTED
    )
    found = tick(bench, None)
    assert found.skip_message == "p__update is running" and not found.cursor
    bench.instance.report_run_failed(run)
    assert asked(tick(bench, None)) == [["a", "b"]]


def test_a_schedule_of_its_own(bench: GraphBench) -> None:
    bench.more = {"automation": "cron", "cron": "0 3 * * *", "cron_timezone": "Europe/Berlin"}
    (schedule,) = bench.definitions().get_repository_def().schedule_defs
    assert (schedule.job_name, schedule.cron_schedule, schedule.execution_timezone) == (
        "p__update", "0 3 * * *", "Europe/Berlin",
    )  # fmt: skip
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"automation": "cron"}, "go together"),
        ({"cron": "0 3 * * *"}, "go together"),
        ({"automation": "cron", "cron": "at night"}, "five fields"),
        ({"automation": "cron", "cron": "61 3 * * *"}, "five fields"),
        ({"automation": "cron", "cron": "0 3 * * *", "cron_timezone": "Mars/North"}, "is not known"),
    ],
)
def test_a_time_that_is_none_is_refused(bench: GraphBench, more: dict[str, str], said: str) -> None:
    bench.more = more
    with pytest.raises(ValidationError, match=said):
        bench.definitions()


def test_nothing_is_launched_without_a_word(bench: GraphBench) -> None:
    repository = bench.definitions().get_repository_def()
    assert not repository.schedule_defs and not repository.sensor_defs
    assert all(spec.automation_condition is None for spec in bench.definitions().resolve_all_asset_specs())


def test_conditions_ask_for_the_partitions_whose_input_is_another(bench: GraphBench) -> None:
    bench.more = {"automation": "conditions"}
    bench.ingest = {"id": "{key}"}
    definitions = bench.definitions()
    result = dg.evaluate_automation_conditions(definitions, bench.instance)
    bench.all()
    result = dg.evaluate_automation_conditions(bench.definitions(), bench.instance, cursor=result.cursor)
    kit.write_jsonl(bench.sources["b"], kit.texts(21, 100))
    assert bench.run(RAW, "b-delta").success
    result = dg.evaluate_automation_conditions(bench.definitions(), bench.instance, cursor=result.cursor)
    assert result.get_requested_partitions(STRIDES) == {"b-delta"}
    assert result.get_requested_partitions(SHARDS) == set()


def fresh(bench: GraphBench) -> dict[str, bool]:
    """Partition of raw_reviews → what an update's `source_fresh` says of it."""
    run = bench.update()
    assert run.success
    found = [event.asset_check_evaluation_data for event in bench.events(run, CHECK)]
    return {one.partition: one.passed for one in found if one.check_name == "source_fresh"}


def test_a_source_that_nobody_writes_any_more_is_red(bench: GraphBench) -> None:
    os.utime(bench.sources["a"], (time.time() - 7200, time.time() - 7200))
    bench.ingest = {"fresh_hours": 3.0}
    assert fresh(bench) == dict.fromkeys(bench.snapshots(), True)
    bench.ingest = {"fresh_hours": 1.5}  # b is an hour old: nothing is recorded, and it is looked at
    assert fresh(bench) == {"a": False, "a-delta": False, "b": True, "b-delta": True}
