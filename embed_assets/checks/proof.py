"""All that is asked of the lake about a committed shard before there is an event of it, in one pass over its files."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from embed_assets.checks.outcome import Checked, run_checks
from embed_assets.checks.shard import SHARD_CHECKS, ShardView
from embed_worker.lake.integrity import restore_space
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.manifests import ShardManifest


@dataclass(frozen=True)
class Proof:
    """What a shard's files say of it."""

    fault: str | None = None
    """The first of its files that is missing, cut or changed."""
    checks: Checked = field(default_factory=dict)
    restored: str = ""
    """What was wrong with the canary vectors of its space, which it has put right."""


Prove = Callable[[EmbedJob, ShardManifest], Proof]
"""May raise StoreUnavailable: then it is asked again."""


def prove(view: ShardView, checks: Iterable[str]) -> Proof:
    """Raises StoreUnavailable where the lake is away."""
    restored = restore_space(view.store, view.manifest) or ""
    outcomes = run_checks(SHARD_CHECKS, checks, view, ask_again=True)
    faults = view.faults
    return Proof(faults[0] if faults else None, outcomes, restored)
