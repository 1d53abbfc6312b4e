"""What was committed before a run began: taken over once it is proved from its files."""

from collections import deque
from collections.abc import Generator, Sequence

from embed_assets.drive.events import Note, Plan
from embed_assets.drive.outages import Outages
from embed_worker.lake import failpoints
from embed_worker.lake.errors import StoreUnavailable
from embed_worker.lake.integrity import shard_fault
from embed_worker.lake.manifests import BadManifest, ShardManifest
from embed_worker.lake.parallel import in_parallel
from resources.lake import LakeResource


class CommittedBefore:
    """Plans whose manifest was there when the run began. They are proved one by one: it reads every byte of them."""

    def __init__(self, lake: LakeResource, outages: Outages) -> None:
        self._lake, self._outages = lake, outages
        self.unproved = deque[Plan]()
        self._adopted = 0

    def sort(self, plans: Sequence[Plan]) -> Generator[Note, None, list[Plan]]:
        """Keeps the plans that have a manifest, whatever it is worth; returns the others."""

        def has_manifest(plan: Plan) -> bool:
            try:
                return self._lake.shard(plan.job.output) is not None
            except BadManifest:
                return True

        there = yield from self._outages.until_answered("look", lambda: in_parallel(has_manifest, plans))
        self.unproved.extend(plan for plan, found in zip(plans, there, strict=True) if found)
        return [plan for plan, found in zip(plans, there, strict=True) if not found]

    def prove(self) -> Generator[Note, None, tuple[Plan, ShardManifest | None] | None]:
        """The next plan and its manifest; no manifest: it is to be made anew. None: the lake does not answer."""
        plan = self.unproved[0]
        try:
            manifest, fault = self._found(plan)
            while fault and not self._lake.retire(plan.job.output, manifest):
                manifest, fault = self._found(plan)  # somebody else has repaired it meanwhile
        except StoreUnavailable as error:
            yield from self._outages.unanswered("look", error)
            return None
        yield from self._outages.answered("look")
        self.unproved.popleft()
        if fault:
            failpoints.reach("driver.retired")
            yield Note(f"{plan.key}: {fault}; its manifest is retired and the partition is made anew", warning=True)
            manifest = None
        self._adopted += manifest is not None
        if self._adopted and not self.unproved:
            yield Note(f"{self._adopted} partitions were committed already, adopted; their checks run again")
        return plan, manifest

    def _found(self, plan: Plan) -> tuple[ShardManifest | None, str | None]:
        """A partition's manifest, and what is wrong with it or its files."""
        try:
            manifest = self._lake.shard(plan.job.output)
        except BadManifest as error:
            return None, str(error)
        return manifest, None if manifest is None else self._fault_of(plan, manifest)

    def _fault_of(self, plan: Plan, manifest: ShardManifest) -> str | None:
        if manifest.input.digest != plan.job.input.digest or manifest.spec_id != plan.job.spec.spec_id:
            return f"its shard was made from input {manifest.input.digest} with {manifest.spec_id}, not from its own"
        return shard_fault(self._lake.store, plan.job.output, manifest)
