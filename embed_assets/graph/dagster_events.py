"""One Dagster run over many partitions: each is recorded on its own, the moment it is there.

Dagster's own ways record nothing before the run ends, or lose the partition of a check. So the assets of this package
log their events themselves, with the version tags that Dagster would write, and yield Outputs that make no event.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import dagster as dg
from dagster._check import CheckError
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData as TargetMaterialization,
)
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION as NO_EVENT
from dagster._core.errors import DagsterExecutionInterruptedError

from embed_assets.checks.outcome import Checked
from embed_assets.drive.outages import Stopped
from embed_assets.graph.provenance import Inputs, Provenance
from embed_worker.lake import failpoints

LOGS_SHOWN = 3
"""Failed partitions whose logs stand in the run's failure event; all stand in the run's log."""

INTERRUPTS = (Stopped, DagsterExecutionInterruptedError, KeyboardInterrupt)
"""What ends a run from outside."""

Context = dg.AssetExecutionContext | dg.OpExecutionContext


GraphOf = Callable[[Context], Any]
"""The asset graph of a run's code location."""


def asset_graph(fallback: Callable[[], Any]) -> GraphOf:
    """`fallback`: the graph of the pipeline's own definitions, for a job that runs without a code location."""

    def graph_of(context: Context) -> Any:
        try:
            return context.repository_def.asset_graph
        except CheckError:
            return fallback()

    return graph_of


class PartitionRun:
    """The events of one asset in one run."""

    def __init__(
        self,
        context: Context,
        key: dg.AssetKey,
        graph: Any,
        checks: Iterable[str],
        failures: "Failures | None" = None,
        *,
        checks_only: bool = False,
    ) -> None:
        """`graph`: Dagster's asset graph. `failures`: those that are told together with this asset's."""
        self.context, self.key = context, key
        self.selected_checks, self.checks_only = sorted(checks), checks_only
        self.provenance = Provenance(context.instance, graph, key)
        self.failures = failures if failures is not None else Failures()

    @classmethod
    def of_step(cls, context: dg.AssetExecutionContext, key: dg.AssetKey) -> "PartitionRun":
        """For the step of an asset, or of its checks alone."""
        checks = [check.name for check in context.selected_asset_check_keys if check.asset_key == key]
        graph = context.job_def.asset_layer.asset_graph
        return cls(context, key, graph, checks, checks_only=key not in context.selected_asset_keys)

    def tell(self, text: str, *, warning: bool = False) -> None:
        """Into the run's log."""
        (self.context.log.warning if warning else self.context.log.info)(text)

    def partitions(self) -> list[str]:
        """The partitions of this step. A checks-only run from the UI has none: then all that are materialized."""
        context = self.context
        if context.has_partition_key or context.has_partition_key_range:
            keys = list(context.partition_keys)
            if not keys:
                of = context.partition_key_range
                raise dg.Failure(
                    f"the range {of.start}...{of.end} holds no partition: its end stands before its start",
                    allow_retries=False,
                )
            return keys
        materialized = context.instance.get_materialized_partitions(self.key)
        return [key for key in self.provenance.partitions if key in materialized]  # not those of an older spec

    def committed(
        self,
        partition: str,
        *,
        data_version: str,
        metadata: Mapping[str, Any],
        inputs: Inputs,
        checks: Checked,
    ) -> None:
        """Records a materialization, then its checks."""
        event = dg.AssetMaterialization(
            self.key, partition=partition, metadata=metadata, tags=self.provenance.tags(data_version, inputs)
        )
        self.context.log_event(event)
        failpoints.reach("record.materialized")
        self.checked(partition, checks)
        failpoints.reach("record.checked")

    def checked(self, partition: str, outcomes: Checked) -> None:
        """Records checks on the partition's latest materialization. A failed check is an error, not a failed run."""
        record = self._latest(self.key, partition) if outcomes else None
        target = (
            TargetMaterialization(storage_id=record.storage_id, run_id=record.run_id, timestamp=record.timestamp)
            if record
            else None
        )
        for name, outcome in outcomes.items():
            if not outcome.passed:
                self.context.log.error(f"{partition}: check {name} failed: {outcome.description}")
            self.context.log_event(
                dg.AssetCheckEvaluation(  # type: ignore[arg-type]  # an op's context takes it too
                    asset_key=self.key,
                    check_name=name,
                    passed=outcome.passed,
                    severity=dg.AssetCheckSeverity.ERROR,
                    description=outcome.description,
                    metadata=outcome.metadata,
                    partition=partition,
                    target_materialization_data=target,
                )
            )

    def failed(self, partition: str, error: str, log: str = "") -> None:
        """Remembers a failure; the run goes on with the other partitions."""
        error = error or "failed without saying why"
        self.failures.add(partition, error, log)
        self.context.log.error(f"{partition}: {error}" + (f"\nlast lines of its log:\n{log}" if log else ""))

    def finish(self, partitions: int) -> Iterator[dg.Output[None]]:
        """Ends the step: fails it where partitions failed. Otherwise what stands downstream in the same run runs."""
        self.failures.raise_if_any(partitions)
        assert isinstance(self.context, dg.AssetExecutionContext)
        for name in sorted(self.context.op_execution_context.selected_output_names):
            yield dg.Output(None, name, metadata={NO_EVENT: True})

    def _latest(self, key: dg.AssetKey, partition: str) -> dg.EventLogRecord | None:
        filters = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition])
        records = self.context.instance.fetch_materializations(filters, limit=1).records
        return records[0] if records else None


class Failures:
    """The partitions of a run that failed, with what their logs said last."""

    def __init__(self) -> None:
        self._errors: dict[str, str] = {}
        self._logs: dict[str, str] = {}

    def __contains__(self, partition: str) -> bool:
        return partition in self._errors

    def add(self, partition: str, error: str, log: str = "") -> None:
        self._errors[partition] = error
        if log:
            self._logs[partition] = log

    def raise_if_any(self, partitions: int) -> None:
        """A `dg.Failure` with a table."""
        if not self._errors:
            return
        rows = [dg.TableRecord({"partition": k, "error": e.strip()[:500]}) for k, e in self._errors.items()]
        first = next(iter(self._errors))
        logs = "\n\n".join(f"{key}:\n```\n{text}\n```" for key, text in list(self._logs.items())[:LOGS_SHOWN])
        rest = ". The others are committed; re-executing does only the rest" if len(rows) < partitions else ""
        raise dg.Failure(
            f"{len(rows)} of {partitions} partitions failed; first {first}: {self._errors[first]}{rest}",
            metadata={"failed_partitions": dg.MetadataValue.table(rows)}
            | ({"last_log_lines": dg.MetadataValue.md(logs)} if logs else {}),
            allow_retries=False,
        )


class RunLife:
    """Whether this run is to go on, asked of Dagster and of the operating system."""

    def __init__(self, context: Context) -> None:
        self._context, self._parent = context, os.getppid()

    def is_cancelled(self) -> bool:
        run = self._context.instance.get_run_by_id(self._context.run.run_id)
        return run is not None and run.status in (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)

    def goes_on(self) -> bool:
        """False once the run is cancelled, or the code server that started this process is gone."""
        return os.getppid() == self._parent and not self.is_cancelled()

    def interruption(self) -> BaseException:
        """What Dagster takes for a run that was interrupted."""
        return DagsterExecutionInterruptedError()
