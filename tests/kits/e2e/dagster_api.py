"""Dagster from outside: what the UI does, by the UI's own GraphQL; what happened, from the instance's event log."""

import json
import re
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

BACKFILL = """
mutation($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
LAUNCH = """
mutation($p: ExecutionParams!) { launchRun(executionParams: $p) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on RunConfigValidationInvalid { errors { message } } } }"""
AGAIN = """
mutation($p: ReexecutionParams) { launchRunReexecution(reexecutionParams: $p) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
TERMINATE = """
mutation($r: String!) { terminateRun(runId: $r, terminatePolicy: SAFE_TERMINATE) {
  __typename ... on TerminateRunFailure { message } ... on PythonError { message } } }"""
STATUS = "query($b: String!) { partitionBackfillOrError(backfillId: $b) { ... on PartitionBackfill { status } } }"
REPOSITORY = "query { repositoriesOrError { ... on RepositoryConnection { nodes { name location { name } } } } }"
STANDING = """
query($k: AssetKeyInput!, $p: String) { assetNodeOrError(assetKey: $k) { ... on AssetNode {
  staleStatus(partition: $p) pools partitionStats { numPartitions numMaterialized numFailed } } } }"""
START_SENSOR = """
mutation($s: SensorSelector!) { startSensor(sensorSelector: $s) {
  __typename ... on PythonError { message } } }"""
TICKS = """
query($s: SensorSelector!) { sensorOrError(sensorSelector: $s) { ... on Sensor {
  sensorState { ticks { status skipReason error { message } } } } } }"""
SCHEDULE = "query($s: ScheduleSelector!) { scheduleOrError(scheduleSelector: $s) { ... on Schedule { pipelineName } } }"
DRY_RUN = """
mutation($s: ScheduleSelector!, $t: Float) { scheduleDryRun(selectorData: $s, timestamp: $t) {
  __typename ... on PythonError { message } ... on DryRunInstigationTick { evaluationResult {
    error { message } runRequests { jobName } } } } }"""
DONE = {"SUCCESS", "FAILURE", "CANCELED"}


class Dagster:
    """One webserver and the instance behind it."""

    def __init__(self, url: str, home: Path) -> None:
        self.url, self.home = url, home
        node = self.ask(REPOSITORY)["repositoriesOrError"]["nodes"][0]
        self._of_repository = {"repositoryName": node["name"], "repositoryLocationName": node["location"]["name"]}

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            found = json.load(answer)
        assert "errors" not in found, found["errors"]
        return dict(found["data"])

    def backfill(self, asset: list[str], partitions: list[str]) -> str:
        params = {
            "selector": None, "partitionNames": partitions, "assetSelection": [{"path": asset}],
            "fromFailure": False,
        }  # fmt: skip
        return str(self._launched("launchPartitionBackfill", BACKFILL, p=params)["backfillId"])

    def launch(self, asset: list[str], first: str, last: str) -> str:
        """A run over a range of partitions, or over one."""
        tags = {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last}
        if first == last:
            tags = {"dagster/partition": first}
        return self.launch_job("__ASSET_JOB", [asset], tags)

    def launch_job(
        self,
        job: str,
        assets: list[list[str]] | None = None,
        tags: Mapping[str, str] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> str:
        """What the launchpad does."""
        params = {
            "mode": "default",
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in (tags or {}).items()]},
            "runConfigData": config or {},
            "selector": {
                **self._of_repository, "pipelineName": job, "assetCheckSelection": None,
                "assetSelection": assets and [{"path": asset} for asset in assets],
            },
        }  # fmt: skip
        return str(self._launched("launchRun", LAUNCH, p=params)["run"]["runId"])

    def standing(self, asset: list[str], partition: str | None = None) -> dict[str, Any]:
        """Of an asset: its partitions by colour, its pools, and whether it, or one partition, is stale."""
        return dict(self.ask(STANDING, k={"path": asset}, p=partition)["assetNodeOrError"])

    def start_sensor(self, name: str) -> None:
        found = self.ask(START_SENSOR, s={**self._of_repository, "sensorName": name})["startSensor"]
        assert found["__typename"] == "Sensor", found

    def ticks(self, sensor: str) -> list[dict[str, Any]]:
        """The newest first."""
        found = self.ask(TICKS, s={**self._of_repository, "sensorName": sensor})
        return list(found["sensorOrError"]["sensorState"]["ticks"])

    def would_launch(self, schedule: str) -> list[str]:
        """Jobs that a schedule's tick of this moment launches, as *Preview tick result* shows them."""
        selector = {**self._of_repository, "scheduleName": schedule}
        found = self.ask(DRY_RUN, s=selector, t=time.time())["scheduleDryRun"]
        assert found["__typename"] == "DryRunInstigationTick" and not found["evaluationResult"]["error"], found
        target = self.ask(SCHEDULE, s=selector)["scheduleOrError"]["pipelineName"]
        return [request["jobName"] or target for request in found["evaluationResult"]["runRequests"]]

    def again(self, run: str) -> str:
        params = {"parentRunId": run, "strategy": "ALL_STEPS"}
        return str(self._launched("launchRunReexecution", AGAIN, p=params)["run"]["runId"])

    def terminate(self, run: str) -> None:
        found = self.ask(TERMINATE, r=run)["terminateRun"]
        assert found["__typename"] == "TerminateRunSuccess", found

    def backfill_status(self, backfill: str) -> str:
        return str(self.ask(STATUS, b=backfill)["partitionBackfillOrError"]["status"])

    def _launched(self, name: str, query: str, **variables: Any) -> dict[str, Any]:
        found = self.ask(query, **variables)[name]
        assert found["__typename"] in ("LaunchBackfillSuccess", "LaunchRunSuccess"), found
        return dict(found)

    # -- what happened ---------------------------------------------------------------------------

    def instance(self) -> dg.DagsterInstance:
        return dg.DagsterInstance.from_config(str(self.home))

    def runs(self, backfill: str) -> list[str]:
        with self.instance() as instance:
            found = instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill}))
        return [run.run_id for run in found]

    def status(self, run: str) -> str:
        with self.instance() as instance:
            found = instance.get_run_by_id(run)
        assert found is not None
        return found.status.value

    def messages(self, run: str) -> list[str]:
        with self.instance() as instance:
            return [entry.user_message for entry in instance.all_logs(run)]

    def pid(self, run: str) -> int | None:
        """Of the run's own process."""
        for message in self.messages(run):
            if match := re.search(r"for run \(pid: (\d+)\)|process.*pid: (\d+)", message):
                return int(match[1] or match[2])
        return None

    def metadata(self, runs: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Metadata of each materialized shard, its details among it, the latest event of each."""
        found: dict[str, dict[str, Any]] = {}
        for data in self._events(runs, dg.DagsterEventType.ASSET_MATERIALIZATION):
            event = data.step_materialization_data.materialization
            if event.asset_key.path[-1] == "embedding_shards":
                values: dict[str, Any] = {key: value.value for key, value in event.metadata.items()}
                found[str(event.partition)] = {**values, **values["details"]}
        return found

    def checks(self, runs: Iterable[str]) -> dict[tuple[str, str], bool]:
        evaluations = [
            event.asset_check_evaluation_data
            for event in self._events(runs, dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        ]
        return {(str(one.partition), one.check_name): one.passed for one in evaluations}

    def _events(self, runs: Iterable[str], kind: dg.DagsterEventType) -> Iterator[dg.DagsterEvent]:
        with self.instance() as instance:
            for run in runs:
                for entry in instance.all_logs(run, of_type=kind):
                    if entry.dagster_event is not None:
                        yield entry.dagster_event


class Stopwatch:
    """Seconds of each phase since the start."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.seconds: dict[str, float] = {}

    def __call__(self, phase: str) -> None:
        self.seconds[phase] = round(time.monotonic() - self._began, 1)
        print(f"{self.seconds[phase]:7.1f} s  {phase}", flush=True)
