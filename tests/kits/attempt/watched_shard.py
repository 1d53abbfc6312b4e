"""What may be seen of a shard's folder while attempts work, freeze and die: the invariants of the commit protocol."""

from embed_worker.attempt.checkpoints import CheckpointRecord, Checkpoints
from embed_worker.lake import files
from embed_worker.lake.errors import BadManifest
from embed_worker.lake.integrity import file_faults
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.manifests import ShardManifest, read_manifest
from embed_worker.lake.seal import unsealed
from embed_worker.lake.store import Store
from resources.lake import Lake


class WatchedShard:
    """One shard's folder. `look` holds it against the protocol and against what it was before."""

    def __init__(self, store: Store, job: EmbedJob) -> None:
        self.store, self.job = store, job
        self.checkpoints = Checkpoints(store, job)
        self.manifest: bytes | None = None
        self.records: dict[int, bytes] = {}
        self.loose: set[int] = set()
        """Checkpoints that may be made anew: damage was done to them, or to the manifest."""
        self.damaged: dict[str, bytes | None] = {}
        self.generation = 1
        """Manifests that there may have been: a repair makes way for another."""

    def read(self, path: str) -> bytes | None:
        """None where there is nothing, and where what lies there was damaged by the test."""
        try:
            data = self.store.read(path)
        except FileNotFoundError:
            data = None
        if path in self.damaged:
            if self.damaged[path] == data:
                return None
            del self.damaged[path]  # made anew
        return data

    def look(self) -> None:
        """What readers see is whole and stays as it is; so is and does what is committed of a shard in the making."""
        path = self.job.shard.manifest_path
        manifest = self.read(path)
        if path in self.damaged:
            return
        if self.manifest is not None:
            assert manifest == self.manifest, "a committed manifest has changed"
        if manifest is None:
            self._look_at_records()
            return
        shard = ShardManifest.model_validate(unsealed(path, manifest))
        for file in shard.listed:
            self._whole(file, "a committed shard")
        self.manifest, self.records = manifest, {}

    def _look_at_records(self) -> None:
        folder = self.checkpoints.folder
        there = self.checkpoints.committed()
        gone = self.records.keys() - there - self.loose
        assert not gone, f"committed checkpoints are gone: {gone}"
        for index in there:
            path = f"{folder}/{index:06d}.json"
            if (found := self.read(path)) is None:
                continue
            known = self.records.get(index, found)
            assert found == known or index in self.loose, f"committed checkpoint {index} has changed"
            self.records[index] = found
            made = CheckpointRecord.model_validate(unsealed(path, found))
            if made.data and index not in self.loose:
                self._whole(made.data, f"checkpoint {index}")

    def _whole(self, file: files.FileRef, of: str) -> None:
        path = f"{self.job.shard.folder}/{file.path}"
        self.read(path)
        if path not in self.damaged:
            fault = files.fault_of(self.store, self.job.shard.folder, file)
            assert fault is None, f"{of}: {fault}"

    def damage(self, number: int, kind: str) -> None:
        """Cuts, changes or deletes one file of the folder at rest."""
        paths = [path for path, _ in self.store.walk(self.job.shard.folder) if "/." not in path]
        if not paths:
            return
        path = paths[number % len(paths)]
        if path == self.job.shard.manifest_path and kind == "delete":
            kind = "truncate"  # a manifest that is lost without a trace reopens the partition to attempts of before
        data = self.store.read(path)
        self.store.delete(path)
        bad: bytes | None = None
        if kind != "delete":
            bad = data[: len(data) // 2] if kind == "truncate" else data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]
            self.store.create(path, bad)
        self.damaged[path] = bad
        if "/checkpoints/rows-" in path:
            self.loose.add(int(path.rsplit("/", 1)[-1][:6]))

    def repair(self) -> bool:
        """What the driver does before it launches a job."""
        lake = Lake(root=self.store.root)
        manifest = None
        try:
            manifest = lake.shard(self.job.shard)
            if manifest is None:
                return False
            foreign = manifest.input.digest != self.job.input.digest
            if not foreign and not file_faults(self.store, self.job.shard.folder, manifest.listed):
                return False
        except BadManifest:
            pass
        assert lake.retire(self.job.shard, manifest)
        self.generation += 1
        self.manifest = None
        self.loosen()
        return True

    def loosen(self) -> None:
        """From now on every checkpoint may be made anew."""
        self.loose |= set(range(self.checkpoints.count))

    def sound(self) -> set[int]:
        """Committed checkpoints that nobody may make again."""
        found: set[int] = set()
        if self.read(self.job.shard.manifest_path) is not None:
            return found
        for index in self.checkpoints.committed():
            try:
                made = read_manifest(self.store, f"{self.checkpoints.folder}/{index:06d}.json", CheckpointRecord)
            except BadManifest:
                continue
            if made and made.input_digest == self.job.input.digest:
                found.add(index)
        return found
