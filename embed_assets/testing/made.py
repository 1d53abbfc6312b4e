"""What a run of a whole pipeline has left."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from embed_assets.reading.lake import Lake
from embed_assets.spec import EmbeddingPipeline

if TYPE_CHECKING:
    import polars as pl


@dataclass
class Made:
    """The lake that `materialize` has filled, and what Dagster knows of it."""

    pipeline: EmbeddingPipeline
    """As it ran: with the hash engine, and with the test's rows as sources."""
    lake: Lake
    instance: dg.DagsterInstance
    definitions: dg.Definitions
    datasets: list[str]
    """Those that rows were given for."""
    runs: list[dg.ExecuteInProcessResult] = field(default_factory=list)

    @property
    def success(self) -> bool:
        """Whether every run succeeded."""
        return all(run.success for run in self.runs)

    def scan(self, dataset: str | None = None) -> "pl.LazyFrame":
        """The vectors of a dataset; without a name, of the only one."""
        if dataset is None and len(self.datasets) > 1:
            raise ValueError(f"there are the datasets {', '.join(self.datasets)}; say which")
        return self.lake.scan(self.pipeline, dataset or self.datasets[0])

    def value(self, asset: dg.AssetKey | str, partition: str | None = None) -> Any:
        """What an asset of the test's own has returned."""
        key = dg.AssetKey([asset]) if isinstance(asset, str) else asset
        return self.definitions.load_asset_value(key, instance=self.instance, partition_key=partition)

    @property
    def checks(self) -> dict[str, bool]:
        """Whether each check passed that was made, by its asset, partition and name: `p/raw_reviews d schema`."""
        kind = dg.DagsterEventType.ASSET_CHECK_EVALUATION
        found: dict[str, bool] = {}
        for run in self.runs:
            for entry in self.instance.all_logs(run.run_id, of_type=kind):
                assert entry.dagster_event is not None
                check = entry.dagster_event.asset_check_evaluation_data
                words = (check.asset_key.to_user_string(), check.partition, check.check_name)
                found[" ".join(word for word in words if word)] = check.passed
        return found
