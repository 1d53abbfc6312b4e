"""What was committed before a run began: taken over once it is proved from its files."""

from dataclasses import dataclass

from embed_assets.checks.proof import Proof, Prove
from embed_worker.lake import failpoints
from embed_worker.lake.errors import BadManifest
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.manifests import ShardManifest
from resources.lake import Lake


@dataclass(frozen=True)
class Found:
    """A shard that has a manifest. Without one here, it was damaged: it is retired and to be made anew."""

    manifest: ShardManifest | None
    proof: Proof


class Adoption:
    """Judges shards that have a manifest, whatever it is worth."""

    def __init__(self, lake: Lake, prove: Prove) -> None:
        self._lake, self._prove = lake, prove

    def has_manifest(self, job: EmbedJob) -> bool:
        try:
            return self._lake.shard(job.shard) is not None
        except BadManifest:
            return True

    def judge(self, job: EmbedJob) -> Found:
        """Reads every byte of the shard. Retires a damaged one. Raises StoreUnavailable."""
        while True:
            manifest, proof = self._found(job)
            if proof.fault is None:
                return Found(manifest, proof)
            if self._lake.retire(job.shard, manifest):
                failpoints.reach("driver.retired")
                return Found(None, proof)
            # somebody else has repaired it meanwhile

    def _found(self, job: EmbedJob) -> tuple[ShardManifest | None, Proof]:
        try:
            manifest = self._lake.shard(job.shard)
        except BadManifest as error:
            return None, Proof(str(error))
        if manifest is None:
            return None, Proof()
        if manifest.shard != job.shard:
            made_from = f"input {manifest.input.digest} with {manifest.shard.spec_id}"
            return manifest, Proof(f"its shard was made from {made_from}, not from its own")
        return manifest, self._prove(job, manifest)
