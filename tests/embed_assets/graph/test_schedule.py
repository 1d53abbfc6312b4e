"""A schedule on the update job: what its tick asks for is launched, and takes what is due."""

from typing import Any

import dagster as dg
import pytest

from tests.kits.graph_bench import INDEX, MATERIALIZATION, SHARDS, GraphBench

pytestmark = pytest.mark.slow


def launched(bench: GraphBench, schedule: dg.ScheduleDefinition) -> dg.ExecuteInProcessResult:
    """As the daemon does at a tick: the request's config and tags, for the job that the schedule names."""
    definitions = dg.Definitions.merge(bench.definitions(), dg.Definitions(schedules=[schedule]))
    repository = definitions.get_repository_def()
    found = repository.get_schedule_def(schedule.name)
    context = dg.build_schedule_context(instance=bench.instance, repository_def=repository)
    requests: Any = found.evaluate_tick(context).run_requests
    (request,) = requests
    job = definitions.resolve_job_def(request.job_name or found.job_name)
    return job.execute_in_process(instance=bench.instance, run_config=request.run_config, tags=request.tags)


def test_each_tick_takes_what_is_due(bench: GraphBench) -> None:
    nightly = dg.ScheduleDefinition(name="nightly", job_name="p__update", cron_schedule="0 3 * * *")
    run = launched(bench, nightly)
    assert run.success and run.dagster_run.tags["dagster/schedule_name"] == "nightly"
    assert bench.instance.get_materialized_partitions(SHARDS) == set(bench.partitions())
    assert bench.instance.get_materialized_partitions(INDEX) == {"a", "b"}
    again = launched(bench, nightly)
    assert again.success and bench.events(again, MATERIALIZATION) == []


def test_its_config_is_the_jobs(bench: GraphBench) -> None:
    config = {"ops": {"p__update_op": {"config": {"datasets": ["b"]}}}}
    of_b = dg.ScheduleDefinition(name="of_b", job_name="p__update", cron_schedule="@hourly", run_config=config)
    assert launched(bench, of_b).success
    assert bench.instance.get_materialized_partitions(SHARDS) == set(bench.partitions("b"))
