"""One Dagster run over many partitions: each is recorded on its own, the moment it is there.

Dagster's own ways record nothing before the run ends, or lose the partition of a check. So the assets of this
package are skippable multi_assets that never yield an Output and log their events themselves; the version tags
that Dagster would write are written here.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData as TargetMaterialization,
)

from embed_assets.checks.outcome import CheckOutcome

Inputs = Mapping[dg.AssetKey, "dg.EventLogRecord | None"]
"""Latest materialization of each input when the work began: what it really read."""


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
        self._begun = time.monotonic()

    def partitions(self) -> list[str]:
        """The partitions of this run. A checks-only run from the UI has none: then all that are materialized."""
        context = self.context
        if context.has_partition_key or context.has_partition_key_range:
            return list(context.partition_keys)
        return sorted(context.instance.get_materialized_partitions(self.key))

    def inputs(self, partition: str) -> Inputs:
        return {key: self._latest(key, parent(partition)) for key, parent in self._parents.items()}

    def committed(
        self,
        partition: str,
        *,
        data_version: str,
        metadata: Mapping[str, Any],
        inputs: Inputs,
        checks: Callable[[Iterable[str]], Mapping[str, CheckOutcome]],
    ) -> None:
        """Records a materialization, then its checks."""
        event = dg.AssetMaterialization(
            self.key, partition=partition, metadata=metadata, tags=self._version_tags(data_version, inputs)
        )
        self.context.log_event(event)
        self.checked(partition, checks(self.selected_checks))

    def checked(self, partition: str, outcomes: Mapping[str, CheckOutcome]) -> None:
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
        self._failed[partition] = error
        self.context.log.error(f"{partition}: {error}" + (f"\nlast lines of its log:\n{log}" if log else ""))

    def finish(self, partitions: int) -> None:
        """Ends the run: fails it with a table where partitions failed."""
        if not self._failed:
            return
        rows = [dg.TableRecord({"partition": k, "error": e.splitlines()[0][:500]}) for k, e in self._failed.items()]
        first = next(iter(self._failed))
        raise dg.Failure(
            f"{len(self._failed)} of {partitions} partitions failed; first {first}: {self._failed[first]}. "
            "The others are committed; re-executing does only the rest",
            metadata={"failed_partitions": dg.MetadataValue.table(rows)},
            allow_retries=False,
        )

    def _latest(self, key: dg.AssetKey, partition: str) -> dg.EventLogRecord | None:
        filters = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition])
        records = self.context.instance.fetch_materializations(filters, limit=1).records
        return records[0] if records else None

    def _version_tags(self, data_version: str, inputs: Inputs) -> dict[str, str]:
        tags = {
            "dagster/data_version": data_version,
            "dagster/data_version_is_user_provided": "true",
        }
        if self._code_version is not None:
            tags["dagster/code_version"] = self._code_version
        for key, record in inputs.items():
            name = key.to_user_string()
            version = None
            if record is not None and record.asset_materialization is not None:
                version = (record.asset_materialization.tags or {}).get("dagster/data_version")
            tags[f"dagster/input_data_version/{name}"] = version or "INITIAL"
            tags[f"dagster/input_event_pointer/{name}"] = str(record.storage_id) if record else "NULL"
        return tags
