"""One Dagster run over many partitions: each is recorded on its own, the moment it is there.

Dagster's own ways record nothing before the run ends, or lose the partition of a check. So the assets of this
package are skippable multi_assets that never yield an Output and log their events themselves; the version tags
that Dagster would write are written here.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData as TargetMaterialization,
)
from dagster._core.errors import DagsterExecutionInterruptedError

from embed_assets.checks.outcome import Checked
from embed_assets.drive.outages import Stopped
from embed_worker.lake import failpoints

LOGS_SHOWN = 3
"""Failed partitions whose logs stand in the run's failure event; all stand in the run's log."""

DATA_VERSION = "dagster/data_version"


@dataclass(frozen=True)
class Parent:
    """An input's latest materialization when the work began: what was really read."""

    storage_id: int
    data_version: str | None


Inputs = Mapping[dg.AssetKey, Parent | None]
"""None where an input was never materialized."""

INTERRUPTS = (Stopped, DagsterExecutionInterruptedError, KeyboardInterrupt)
"""What ends a run from outside."""


class PartitionRun:
    """The events of one asset in one run."""

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        key: dg.AssetKey,
        parents: Mapping[dg.AssetKey, Callable[[str], str]],
    ) -> None:
        """`parents` gives, for each dependency, its partition that a partition of this asset reads."""
        self.context, self.key, self._parents = context, key, parents
        self.selected_checks = sorted(check.name for check in context.selected_asset_check_keys)
        self.checks_only = key not in context.selected_asset_keys
        self._code_version = context.assets_def.code_versions_by_key.get(key)
        self._failed: dict[str, str] = {}
        self._logs: dict[str, str] = {}

    def tell(self, text: str, *, warning: bool = False) -> None:
        """Into the run's log."""
        (self.context.log.warning if warning else self.context.log.info)(text)

    def partitions(self) -> list[str]:
        """The partitions of this run. A checks-only run from the UI has none: then all that are materialized."""
        context = self.context
        if context.has_partition_key or context.has_partition_key_range:
            return list(context.partition_keys)
        materialized = context.instance.get_materialized_partitions(self.key)
        definition = context.assets_def.partitions_def
        assert definition is not None
        return [key for key in definition.get_partition_keys() if key in materialized]  # not those of an older spec

    def inputs(self, partitions: Iterable[str]) -> dict[str, Inputs]:
        """What each partition reads: two queries an input, whatever the number of partitions."""
        partitions = list(partitions)
        found = {key: self._materialized(key, {of(p) for p in partitions}) for key, of in self._parents.items()}
        return {p: {key: found[key].get(of(p)) for key, of in self._parents.items()} for p in partitions}

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
            self.key, partition=partition, metadata=metadata, tags=self._version_tags(data_version, inputs)
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
                dg.AssetCheckEvaluation(
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
        self._failed[partition] = error or "failed without saying why"
        if log:
            self._logs[partition] = log
        self.context.log.error(f"{partition}: {error}" + (f"\nlast lines of its log:\n{log}" if log else ""))

    def finish(self, partitions: int) -> None:
        """Ends the run: fails it with a table where partitions failed."""
        if not self._failed:
            return
        rows = [dg.TableRecord({"partition": k, "error": e.strip()[:500]}) for k, e in self._failed.items()]
        first = next(iter(self._failed))
        logs = "\n\n".join(f"{key}:\n```\n{text}\n```" for key, text in list(self._logs.items())[:LOGS_SHOWN])
        rest = ". The others are committed; re-executing does only the rest" if len(self._failed) < partitions else ""
        raise dg.Failure(
            f"{len(self._failed)} of {partitions} partitions failed; first {first}: {self._failed[first]}{rest}",
            metadata={"failed_partitions": dg.MetadataValue.table(rows)}
            | ({"last_log_lines": dg.MetadataValue.md(logs)} if logs else {}),
            allow_retries=False,
        )

    def _materialized(self, key: dg.AssetKey, partitions: set[str]) -> dict[str, Parent]:
        if not partitions:
            return {}
        storage, kind = self.context.instance.event_log_storage, dg.DagsterEventType.ASSET_MATERIALIZATION
        ids = storage.get_latest_storage_id_by_partition(key, kind, partitions)
        end = max(ids.values(), default=0) + 1  # of these very events, whatever has been added since
        tags = storage.get_latest_tags_by_partition(key, kind, [DATA_VERSION], sorted(partitions), before_cursor=end)
        return {p: Parent(storage_id, tags.get(p, {}).get(DATA_VERSION)) for p, storage_id in ids.items()}

    def _latest(self, key: dg.AssetKey, partition: str) -> dg.EventLogRecord | None:
        filters = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition])
        records = self.context.instance.fetch_materializations(filters, limit=1).records
        return records[0] if records else None

    def _version_tags(self, data_version: str, inputs: Inputs) -> dict[str, str]:
        tags = {
            DATA_VERSION: data_version,
            "dagster/data_version_is_user_provided": "true",
        }
        if self._code_version is not None:
            tags["dagster/code_version"] = self._code_version
        for key, parent in inputs.items():
            name = key.to_user_string()
            version = parent.data_version if parent else None
            # Of a partitioned input Dagster keeps the digest of the versions of the partitions read: here one.
            read = hashlib.sha256(version.encode()).hexdigest() if version else "INITIAL"
            tags[f"dagster/input_data_version/{name}"] = read
            tags[f"dagster/input_event_pointer/{name}"] = str(parent.storage_id) if parent else "NULL"
        return tags


class RunLife:
    """Whether this run is to go on, asked of Dagster and of the operating system."""

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        self._context, self._parent = context, os.getppid()

    def is_cancelled(self) -> bool:
        run = self._context.instance.get_run_by_id(self._context.run_id)
        return run is not None and run.status in (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)

    def goes_on(self) -> bool:
        """False once the run is cancelled, or the code server that started this process is gone."""
        return os.getppid() == self._parent and not self.is_cancelled()

    def interruption(self) -> BaseException:
        """What Dagster takes for a run that was interrupted."""
        return DagsterExecutionInterruptedError()
