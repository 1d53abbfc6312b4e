"""A pipeline of two datasets in Dagster, in this process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)

from embed_assets.deployment import deployed
from embed_assets.settings import Settings
from embed_assets.spec import DatasetSpec
from embed_worker.lake.manifests import SliceManifest, read_manifest
from embed_worker.lake.store import Store
from resources.local.resource import LocalComputeResource
from tests.kits import pipelines as kit
from tests.kits.compute.in_process import InProcessCompute

RAW, STRIDES = dg.AssetKey(["p", "raw_reviews"]), dg.AssetKey(["p", "stride_partitions"])
SHARDS, SET, INDEX = (dg.AssetKey(["p", name]) for name in ("embedding_shards", "embedding_set", "vector_index"))
MATERIALIZATION, CHECK = dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_CHECK_EVALUATION


class GraphBench:
    """A pipeline of two datasets, a lake and a Dagster instance."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.folder, self.instance, self.lake = folder, instance, folder / "lake"
        self.sources = {
            name: kit.settle(kit.write_jsonl(folder / f"{name}.jsonl", kit.texts(20, 100 * i)))
            for i, name in enumerate("ab")
        }
        self.strides = {"a": 3, "b": 2}
        self.python: str | None = None
        """Python of real worker processes; without one, jobs run in this process."""
        self.local: dict[str, Any] = {}
        """Of those worker processes: more of LocalComputeResource's fields."""
        self.embedding: dict[str, Any] = {}
        self.ingest: dict[str, Any] = {}
        self.more: dict[str, Any] = {}
        """More keys of the pipeline."""

    def dataset(self, name: str) -> DatasetSpec:
        return kit.dataset(str(self.sources[name]), name=name, strides=self.strides[name], **self.ingest)

    def definitions(self) -> dg.Definitions:
        datasets = [self.dataset(name) for name in self.sources]
        pipeline = kit.pipeline(datasets, embedding=kit.spec(**self.embedding), **self.more)
        compute: Any = InProcessCompute()
        if self.python is not None:
            compute = LocalComputeResource(worker_python=self.python, poll_seconds=0.02, **self.local)
        return deployed([pipeline], Settings(lake=str(self.lake), max_attempts=2), compute)

    def partitions(self, *names: str) -> list[str]:
        """Of stride_partitions and embedding_shards: the strides, then the deltas."""
        return [*self.strides_of(*names), *(f"{name}-delta" for name in names or self._names)]

    def strides_of(self, *names: str) -> list[str]:
        """The same without the deltas."""
        return [key for name in names or self._names for key in self.dataset(name).stride_keys()]

    def snapshots(self, *names: str) -> list[str]:
        """Of raw_reviews: the bases, then the deltas."""
        return [*(names or self._names), *(f"{name}-delta" for name in names or self._names)]

    @property
    def _names(self) -> list[str]:
        return [name for name in ("a", "b") if name in self.strides]

    def run(
        self, asset: dg.AssetKey, first: str, last: str | None = None, config: dict[str, Any] | None = None
    ) -> dg.ExecuteInProcessResult:
        tags = {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last}
        job = self.definitions().resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=self.instance, asset_selection=[asset], raise_on_error=False,
            tags={k: v for k, v in tags.items() if v} if last else None, partition_key=None if last else first, run_config={"ops": config} if config else None,
        )  # fmt: skip

    def prepare(self) -> None:
        assert self.run(RAW, self.snapshots()[0], self.snapshots()[-1]).success
        assert self.run(STRIDES, self.partitions()[0], self.partitions()[-1]).success

    def embed(self) -> dg.ExecuteInProcessResult:
        return self.run(SHARDS, self.partitions()[0], self.partitions()[-1])

    def all(self) -> None:
        self.prepare()
        assert self.embed().success
        for name in self.strides:
            assert self.run(INDEX, name).success

    def check(self, *keys: dg.AssetKey, partition: str | None = None) -> dg.ExecuteInProcessResult:
        """A run of the checks alone. The partition is a tag: execute_in_process knows partitions of assets only."""
        job = dg.define_asset_job("only_checks", selection=dg.AssetSelection.checks_for_assets(*keys))
        definitions = dg.Definitions.merge(self.definitions(), dg.Definitions(jobs=[job]))
        return definitions.resolve_job_def("only_checks").execute_in_process(
            instance=self.instance, raise_on_error=False, tags={PARTITION_NAME_TAG: partition} if partition else None
        )

    def events(self, run: dg.ExecuteInProcessResult | str, kind: dg.DagsterEventType) -> list[Any]:
        run_id = run if isinstance(run, str) else run.run_id
        return [entry.dagster_event for entry in self.instance.all_logs(run_id, of_type=kind)]

    def made(self, run: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
        """Partition → metadata of its one materialization, its details among it."""
        found = self.events(run, MATERIALIZATION)
        found = [event for event in found if event.asset_key == found[0].asset_key]  # not the set that shards complete
        assert len({event.partition for event in found}) == len(found), "a partition has two events"
        made = {}
        for event in found:
            data = {k: v.value for k, v in event.step_materialization_data.materialization.metadata.items()}
            made[event.partition] = {**data, **data.get("details", {})}
        return made

    def checks(self, run: dg.ExecuteInProcessResult) -> dict[str, dict[str, bool]]:
        """Partition → check → passed."""
        found: dict[str, dict[str, bool]] = {}
        for event in self.events(run, CHECK):
            evaluation = event.asset_check_evaluation_data
            assert evaluation.check_name not in found.setdefault(evaluation.partition, {})
            found[evaluation.partition][evaluation.check_name] = evaluation.passed
        return found

    def latest(self, key: dg.AssetKey, partition: str) -> dg.EventLogRecord:
        filters = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition])
        return self.instance.fetch_materializations(filters, limit=1).records[0]

    def tags(self, key: dg.AssetKey, partition: str) -> dict[str, str]:
        materialization = self.latest(key, partition).asset_materialization
        assert materialization is not None
        return dict(materialization.tags or {})

    def stale(self, key: dg.AssetKey, partitions: list[str]) -> dict[str, str]:
        """Partition → why Dagster shows it as stale; fresh ones are left out."""
        graph = self.definitions().resolve_asset_graph()
        found = {}
        for partition in partitions:
            resolver = CachingStaleStatusResolver(self.instance, graph, LoadingContextForTest(self.instance))
            if resolver.get_status(key, partition) != StaleStatus.FRESH:
                found[partition] = "; ".join(cause.reason for cause in resolver.get_stale_causes(key, partition))
        return found

    def log(self, run: dg.ExecuteInProcessResult) -> str:
        return "\n".join(entry.user_message for entry in self.instance.all_logs(run.run_id))

    def failure(self, run: dg.ExecuteInProcessResult) -> Any:
        assert not run.success
        (event,) = self.events(run, dg.DagsterEventType.STEP_FAILURE)
        return event.step_failure_data.user_failure_data

    def shard_files(self, pattern: str) -> list[Path]:
        return sorted(self.lake.glob(f"embedding_shards/*/*/*/*/*/{pattern}"))

    def update(self, **config: Any) -> dg.ExecuteInProcessResult:
        """A run of the update job."""
        job = self.definitions().resolve_job_def("p__update")
        return job.execute_in_process(
            instance=self.instance, raise_on_error=False, run_config={"ops": {"p__update_op": {"config": config}}}
        )

    def states(self, key: dg.AssetKey, partitions: list[str]) -> Any:
        """Dagster's status of each partition."""
        definition = self.definitions().resolve_asset_graph().get(key).partitions_def
        assert definition is not None
        return self.instance.get_status_by_partition(key, partitions, definition)

    def break_input(self, partition: str) -> Callable[[], None]:
        """Damages a stride's rows in their slice, so that its job is refused; the call back mends them."""
        store = Store(str(self.lake))
        (commit,) = self.lake.glob(f"stride_partitions/{partition[:-6]}/*/*/slices/*.json")
        made = read_manifest(store, str(commit.relative_to(self.lake)), SliceManifest)
        assert made is not None
        line, file = made.lines[int(partition[-5:])], commit.parents[1] / made.file.path
        whole = file.read_bytes()
        begin, size = int(line["offset"]), int(line["length"])
        at = begin + size // 4  # half of it: a few bytes may be padding
        file.unlink()
        file.write_bytes(whole[:at] + bytes(byte ^ 1 for byte in whole[at : at + size // 2]) + whole[at + size // 2 :])

        def mend() -> None:
            file.unlink()
            file.write_bytes(whole)

        return mend
