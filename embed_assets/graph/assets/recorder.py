"""Writes down each committed shard: what its checks found, the materialization, the set that it completes."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping

import dagster as dg

from embed_assets.drive.events import Committed, Failed
from embed_assets.graph.assets.gate import keep_outcomes
from embed_assets.graph.dagster_events import PartitionRun
from embed_assets.graph.provenance import Inputs
from embed_assets.tell.metadata import shard_metadata
from embed_assets.tell.pictures import POINTS
from embed_worker.lake import failpoints
from embed_worker.lake.errors import LakeError
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
        *,
        fail_on: Iterable[str] = (),
        monitor_url: str | None = None,
        ended: Callable[[str], object] = lambda dataset: None,
    ) -> None:
        """`fail_on`: checks that fail the run where they are red. `ended`: told of a dataset at its last shard here."""
        self._run, self._lake, self._inputs, self._stride_key = run, lake, inputs, stride_key
        self._fail_on, self._monitor_url, self._ended = frozenset(fail_on), monitor_url, ended
        self._rates = deque[float](maxlen=POINTS)
        self._left = Counter(job.shard.dataset for job in jobs)
        self.committed_keys: list[str] = []

    def committed(self, outcome: Committed) -> None:
        shard, manifest, proof = outcome.job.shard, outcome.manifest, outcome.proof
        if proof.restored:
            self._run.tell(f"{shard}: {proof.restored}; restored from this shard's manifest", warning=True)
        try:
            keep_outcomes(self._lake, manifest, proof.checks)
        except LakeError as error:  # embedding_set asks again
            self._run.tell(f"{shard}: what its checks found is not kept in the lake: {error}", warning=True)
        failpoints.reach("record.kept")
        if manifest.unusable and manifest.rows_embedded and not outcome.adopted:
            (path, why), more = next(iter(manifest.unusable.items())), len(manifest.unusable) - 1
            self._run.tell(
                f"{shard}: {manifest.rows_embedded:,} rows were embedded, and known vectors of them could not be taken "
                f"from {path}: {why}{f' (and {more} more)' if more else ''}. `embed-assets verify` names what is "
                "damaged; materialized again, it can be taken from",
                warning=True,
            )
        self._rates.append(figures_of(manifest).tokens_per_second or 0.0)
        self._run.committed(
            shard.key,
            data_version=manifest.data_version,
            metadata=shard_metadata(
                self._lake, outcome, self._stride_key, rates=list(self._rates), monitor_url=self._monitor_url
            ),
            inputs=self._inputs[shard.key],
            checks=proof.checks,
        )
        self.committed_keys.append(shard.key)
        for name, found in proof.checks.items():
            if name in self._fail_on and not found.passed:
                self._run.failed(shard.key, f"check {name} failed: {found.description}")
        self._count(shard.dataset)

    def failed(self, outcome: Failed) -> None:
        shard = outcome.job.shard
        self._run.failed(shard.key, f"{outcome.error} (attempts: {outcome.attempts})", outcome.log)
        self._count(shard.dataset)

    def _count(self, dataset: str) -> None:
        self._left[dataset] -= 1
        if not self._left[dataset]:
            self._ended(dataset)
