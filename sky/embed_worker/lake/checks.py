"""`checks.json` beside a shard's manifest: what its checks found, so that a gate needs no database to know it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from embed_worker.lake.layout import FORMAT, ShardId
from embed_worker.lake.lenient import Moment
from embed_worker.lake.seal import sealed, unsealed
from embed_worker.lake.store import Store

CHECKS = "checks.json"


class KeptCheck(BaseModel):
    """One check's result."""

    model_config = ConfigDict(frozen=True)

    passed: bool
    description: str = ""


class KeptChecks(BaseModel):
    """The latest result of each check of a shard."""

    model_config = ConfigDict(frozen=True)

    format: Literal[2] = FORMAT
    data_version: str
    """Of the shard as it was checked; results of another one say nothing."""
    at: Moment | None = None
    checks: dict[str, KeptCheck] = Field(default_factory=dict)

    @property
    def red(self) -> list[str]:
        """`name: what it found` of each that failed."""
        return [f"{name}: {check.description}" for name, check in self.checks.items() if not check.passed]


def keep_checks(store: Store, shard: ShardId, kept: KeptChecks) -> None:
    """Replaces what is there; results of checks that did not run this time stay, if they are of the same data.
    Where all is as before, nothing is written."""
    before = read_checks(store, shard)
    if before is not None and before.data_version == kept.data_version:
        kept = kept.model_copy(update={"checks": before.checks | kept.checks})
        if kept.checks == before.checks:
            return
    path = checks_file(shard)
    store.replace(path, sealed(path, kept.model_dump(mode="json")))


def read_checks(store: Store, shard: ShardId) -> KeptChecks | None:
    """None where there is no such file, or a damaged one: running the checks again replaces it."""
    path = checks_file(shard)
    try:
        return KeptChecks.model_validate(unsealed(path, store.read(path)))
    except (FileNotFoundError, ValueError):
        return None


def checks_file(shard: ShardId) -> str:
    return f"{shard.folder}/{CHECKS}"
