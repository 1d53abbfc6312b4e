"""One lake and one Dagster home under fire, and the proof of what is left at the end."""

import os
import random
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embed_assets.graph.keys import EMBEDDING_SET, EMBEDDING_SHARDS, asset_key
from embed_assets.upkeep import gc, leases
from embed_assets.upkeep.verify import verify_lake
from embed_worker.lake import files, layout
from embed_worker.lake.checks import CHECKS
from embed_worker.lake.deltas import DeltaManifest
from embed_worker.lake.errors import BadManifest
from embed_worker.lake.failpoints import VARIABLE
from embed_worker.lake.manifests import ShardManifest, SliceManifest, StridesManifest, read_manifest
from embed_worker.lake.sets import current_set
from embed_worker.lake.snapshots import PartRecord, Pointer, RawManifest
from embed_worker.lake.store import Store
from tests.kits import pipelines as kit
from tests.kits.chaos import fork_server
from tests.kits.chaos.detached_compute import Jobs
from tests.kits.chaos.figures import record
from tests.kits.chaos.fork_server import Child
from tests.kits.chaos.platform_process import GRAPH, WAIT, StormDeployment

RUN = "tests.kits.chaos.platform_process:dagster"
SECONDS = 120.0
"""That a process may take; for a broken test."""
RUNS_TO_GREEN = 4


class Storm:
    """Runs Dagster processes over one deployment, one after another, and counts those that were killed."""

    def __init__(self, folder: Path, lake: str, source: Path, address: str, **options: Any) -> None:
        self.folder, self.address = folder, address
        self.deployment = StormDeployment(
            home=str(folder / "home"), lake=lake, sources={"a": str(source)}, strides=3, jobs=str(folder / "jobs"),
            address=address, **options,
        )  # fmt: skip
        self.deployment.make_home()
        self.store, self.jobs = Store(lake), Jobs(folder / "jobs")
        self.runs: list[Child] = []

    def start(self, *, worker: str = "", wait: float = 0.01, **changes: Any) -> Child:
        """`worker` is armed in every worker of a backend that ends with the driver; `wait` is for the others."""
        environment = {k: v for k, v in os.environ.items() if k.startswith("AWS_")}
        environment |= {WAIT: str(wait), VARIABLE: worker}
        deployment = self.deployment.model_copy(update=changes)
        folder = self.folder / f"run-{len(self.runs):03d}"
        self.runs.append(fork_server.spawn(self.address, folder, RUN, environment, deployment.model_dump()))
        return self.runs[-1]

    def run(self, **changes: Any) -> Child:
        """Starts one and waits for its end."""
        child = self.start(**changes)
        assert child.wait(SECONDS), f"the run hangs\n{child.log}"
        return child

    def wake(self) -> None:
        """The workers that were frozen go on."""
        for name, id_ in self.jobs.live():
            self.jobs.child(name, id_).send(signal.SIGCONT)

    def calm(self) -> None:
        """Waits for the workers that outlived their driver."""
        for name, id_ in self.jobs.live():
            assert self.jobs.child(name, id_).wait(SECONDS), "a worker hangs"

    def kills(self) -> int:
        """Processes that ended without a word."""
        workers = [Child(path) for path in self.jobs.folder.glob("*/*") if path.is_dir()]
        return sum(not child.alive and child.code is None for child in [*self.runs, *workers])

    def until_green(self, **changes: Any) -> None:
        self.jobs.failpoints.unlink(missing_ok=True)
        for _ in range(RUNS_TO_GREEN):
            if self.run(**changes).code == 0:
                return
        raise AssertionError(f"no run gets green\n{self.runs[-1].log}")


class Proof:
    """What must be so after the last run, whatever was killed."""

    def __init__(self, storm: Storm, reference: dict[int, pa.Table], folder: Path) -> None:
        self.storm, self.store, self.folder, self.reference = storm, storm.store, folder, reference
        self.partitions = storm.deployment.partitions(EMBEDDING_SHARDS)[:-1]  # the delta adds nothing: it has no shard

    def hold(self, patch: pytest.MonkeyPatch, assets: Sequence[str] = GRAPH[:3]) -> None:
        """`assets` are those that were materialized."""
        storm = self.storm
        storm.calm()
        wrong = self.wrong_shards()
        damages = verify_lake(self.store).damages
        doubled = storm.jobs.doubled()
        patch.setattr(leases, "LIVE_SECONDS", 0.0)
        patch.setattr(leases, "WAIT_SECONDS", 0.0)
        patch.setattr(gc, "SCRATCH_SECONDS", 0.0)
        for garbage in gc.find_garbage(self.store):
            self.store.delete(garbage.path)
        orphans = {path for path, _ in self.store.walk("")} - self.listed()
        record(kills=storm.kills(), lost=len(wrong), doubled=len(doubled), orphans=len(orphans))
        assert not wrong, f"not as undisturbed: {wrong}"
        assert not damages, f"verify: {damages}"
        assert not doubled, f"two live jobs of a partition: {doubled}"
        assert not orphans, f"nobody needs: {sorted(orphans)}"
        assert verify_lake(self.store).damages == [], "gc took too much"
        self.dagster_says_so(assets)
        self.set_is_published()

    def set_is_published(self) -> None:
        """Readers take the very shards that are there."""
        for name in self.storm.deployment.sources:
            found = current_set(
                self.store, name, kit.spec().spec_id, self.storm.deployment.pipeline().dataset(name).ingest_id
            )
            assert found is not None, f"{name} has no set"
            versions = {m.shard.key: m.data_version for m in self.shards().values() if m and m.shard.dataset == name}
            assert {shard.key: one.data_version for shard, one in found.members} == versions

    def manifest_of(self, path: str) -> ShardManifest | None:
        try:
            return read_manifest(self.store, path, ShardManifest)
        except BadManifest:
            return None

    def shards(self) -> dict[str, ShardManifest | None]:
        """Manifest path → manifest of all of the lake."""
        found = [path for path, _ in self.store.walk("embedding_shards") if path.endswith(f"/{layout.MANIFEST}")]
        return {path: self.manifest_of(path) for path in found}

    def wrong_shards(self) -> list[str]:
        """Partitions that do not have their rows and vectors exactly once, as an undisturbed lake has them."""
        shards = self.shards()
        whole = [m.shard.key for m in shards.values() if m is not None]
        if sorted(whole) != self.partitions:
            return [f"manifests: {sorted(shards)}"]
        return [path for path, m in shards.items() if m is not None and not self.same(path, m)]

    def same(self, path: str, manifest: ShardManifest) -> bool:
        folder = path.removesuffix(f"/{layout.MANIFEST}")
        return shard_table(self.store, folder, manifest, self.folder).equals(self.reference[manifest.shard.stride])

    def listed(self) -> set[str]:
        """Every file that a manifest or a pointer accounts for."""
        found = set()
        for path, _ in self.store.walk(""):
            folder, _, name = path.rpartition("/")
            if path.endswith(f"/{layout.MANIFEST}"):
                found |= {path, f"{folder}/{CHECKS}", *(f"{folder}/{file.path}" for file in self.files_of(path))}
            elif path.startswith("stride_partitions/"):
                found |= self.of_cut(path)
            elif (
                name in (layout.BASE, layout.LATEST) and read_manifest(self.store, path, Pointer) is not None
            ) or name == layout.SEEN:
                found.add(path)
            elif path.startswith("raw_reviews/") and path.endswith(".json"):
                raw = folder.rpartition("/")[0]
                model: Any = PartRecord if folder.endswith(f"/{layout.PARTS}") else RawManifest
                if folder.endswith(f"/{layout.DELTAS}"):
                    model = DeltaManifest
                if (made := read_manifest(self.store, path, model)) is not None:
                    found |= {path, *(f"{raw}/{file.path}" for file in made.listed)}
            elif path.startswith(("vector_index/", "embedding_sets/")):
                found.add(path)
        return found | {layout.canaries_file(m.shard.spec_id) for m in self.shards().values() if m is not None}

    def of_cut(self, path: str) -> set[str]:
        """What the commit of a cut, or of a slice, accounts for."""
        folder, _, name = path.rpartition("/")
        if not name.endswith(".json"):
            return set()
        if not folder.endswith("/slices"):
            cut = read_manifest(self.store, path, StridesManifest)
            return {path, *(layout.slice_file(folder, one) for one in cut.slices)} if cut else set()
        made = read_manifest(self.store, path, SliceManifest)
        return {f"{folder.removesuffix('/slices')}/{made.file.path}"} if made else set()

    def files_of(self, path: str) -> list[files.FileRef]:
        manifest = read_manifest(self.store, path, ShardManifest)
        return list(manifest.listed) if manifest else []

    def dagster_says_so(self, assets: Sequence[str]) -> None:
        """Each partition is materialized, and each check of its latest run has passed."""
        pipeline = self.storm.deployment.pipeline()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DAGSTER_HOME", self.storm.deployment.home)
            with dg.DagsterInstance.get() as instance:
                for asset in assets:
                    wanted = self.storm.deployment.partitions(asset)
                    key = asset_key(pipeline, asset)
                    assert instance.get_materialized_partitions(key) == set(wanted)
                    for partition in wanted:
                        self.checked(instance, key, partition)

    def checked(self, instance: dg.DagsterInstance, key: dg.AssetKey, partition: str) -> None:
        filters = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition])
        (latest,) = instance.fetch_materializations(filters, limit=1).records
        events = instance.all_logs(latest.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        evaluations = [entry.dagster_event.asset_check_evaluation_data for entry in events if entry.dagster_event]
        passed = [one.passed for one in evaluations if one.asset_key == key and one.partition == partition]
        assert all(passed) and (passed or key.path[-1] == EMBEDDING_SET), (
            f"{key.to_user_string()} {partition}: {passed}"
        )


def shard_table(store: Store, shard: str, manifest: ShardManifest, folder: Path) -> pa.Table:
    """A shard as its readers see it, each file proved by its digest."""
    tables = [pq.read_table(files.fetch(store, shard, file, folder)) for file in manifest.files]
    return pa.concat_tables([table.replace_schema_metadata(None) for table in tables])


def damage_a_shard(store: Store, rng: random.Random) -> None:
    """The last byte of a part file of a local lake is another."""
    parts = sorted(path for path, _ in store.walk("embedding_shards") if path.endswith(".parquet"))
    path = Path(store.path(rng.choice(parts)))
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
