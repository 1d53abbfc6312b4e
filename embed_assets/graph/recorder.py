"""Writes down each committed shard: the digest of its dataset's set, the materialization, the checks."""

import hashlib
from collections import Counter, deque
from collections.abc import Iterable, Mapping

import dagster as dg

from embed_assets.drive.events import Committed, Failed
from embed_assets.graph.dagster_events import DATA_VERSION, Inputs, PartitionRun
from embed_assets.graph.partitions import PipelinePartitions
from embed_assets.tell.metadata import shard_metadata
from embed_assets.tell.pictures import POINTS
from embed_worker.lake import failpoints
from embed_worker.lake.figures import figures_of
from embed_worker.lake.job import EmbedJob
from resources.lake import Lake


class Recorder:
    """One run's events of embedding_shards."""

    def __init__(
        self,
        run: PartitionRun,
        lake: Lake,
        jobs: Iterable[EmbedJob],
        inputs: Mapping[str, Inputs],
        stride_key: dg.AssetKey,
        digest: "SetDigest",
        monitor_url: str | None,
    ) -> None:
        self._run, self._lake, self._inputs, self._stride_key = run, lake, inputs, stride_key
        self._digest, self._monitor_url = digest, monitor_url
        self._rates = deque[float](maxlen=POINTS)
        self._left = Counter(job.shard.dataset for job in jobs)

    def committed(self, outcome: Committed) -> None:
        shard, manifest = outcome.job.shard, outcome.manifest
        if outcome.proof.restored:
            self._run.context.log.warning(f"{shard}: {outcome.proof.restored}; restored from this shard's manifest")
        self._digest.will_have(shard.key, manifest.data_version)
        self._left[shard.dataset] -= 1
        last = not self._left[shard.dataset]
        observed = last and self._digest.observe(shard.dataset)
        self._rates.append(figures_of(manifest).tokens_per_second or 0.0)
        self._run.committed(
            shard.key,
            data_version=manifest.data_version,
            metadata=shard_metadata(
                self._lake, outcome, self._stride_key, rates=list(self._rates), monitor_url=self._monitor_url
            ),
            inputs=self._inputs[shard.key],
            checks=outcome.proof.checks,
        )
        if last and not observed:  # another run may have recorded the last but one meanwhile, as blind for this one's
            self._digest.observe(shard.dataset)

    def failed(self, outcome: Failed) -> None:
        dataset = outcome.job.shard.dataset
        self._run.failed(outcome.job.shard.key, f"{outcome.error} (attempts: {outcome.attempts})", outcome.log)
        self._left[dataset] -= 1
        if not self._left[dataset]:
            self._digest.observe(dataset)


class SetDigest:
    """Observes the digest of a dataset's complete set of shards, whatever number of runs made it.

    It is asked for at a run's last shard of a dataset, just before that shard's event, so that a backfill that waits
    for the shards sees the new digest. Asking names every partition of the dataset: at each commit it would cost
    Dagster's database the square of their number.
    """

    def __init__(self, run: PartitionRun, digest_key: dg.AssetKey, partitions: PipelinePartitions) -> None:
        self._run, self._digest_key, self._partitions = run, digest_key, partitions
        self._recorded: dict[str, str] = {}

    def will_have(self, key: str, data_version: str) -> None:
        """The version that a partition has once its event is logged."""
        self._recorded[key] = data_version

    def observe(self, dataset: str) -> bool:
        """False where the set is not complete."""
        keys = self._partitions.strides_of[dataset]
        before = self._versions(keys)
        versions = before | {key: self._recorded[key] for key in keys if key in self._recorded}
        if len(versions) < len(keys):
            return False
        digest = hashlib.sha256("".join(versions[key] for key in keys).encode()).hexdigest()[:16]
        if self._observed(dataset) != digest:
            self._run.context.log_event(
                dg.AssetObservation(self._digest_key, partition=dataset, tags={DATA_VERSION: digest})
            )
            failpoints.reach("record.observed")
        return True

    def _versions(self, keys: list[str]) -> dict[str, str]:
        """Data versions of the partitions among `keys` that are materialized."""
        tags = self._run.context.instance.event_log_storage.get_latest_tags_by_partition(
            self._run.key, dg.DagsterEventType.ASSET_MATERIALIZATION, [DATA_VERSION], asset_partitions=keys
        )
        return {key: found[DATA_VERSION] for key, found in tags.items()}

    def _observed(self, dataset: str) -> str | None:
        """The digest that was observed last."""
        tags = self._run.context.instance.event_log_storage.get_latest_tags_by_partition(
            self._digest_key, dg.DagsterEventType.ASSET_OBSERVATION, [DATA_VERSION], asset_partitions=[dataset]
        )
        found: str | None = tags.get(dataset, {}).get(DATA_VERSION)
        return found
