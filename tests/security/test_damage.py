"""Random damage to any file of a lake at rest: verify names it, and materializing repairs it and nothing else."""

import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from embed_assets.checks.outcome import all_failed
from embed_assets.checks.proof import prove
from embed_assets.checks.shard import SHARD_CHECKS
from embed_assets.checks.strides import STRIDE_CHECKS, StrideView
from embed_assets.drive.driver import Driver
from embed_assets.drive.events import Committed
from embed_assets.graph.assets import raw_reviews, shard_run
from embed_assets.graph.assets.shard_jobs import ShardJobs
from embed_assets.upkeep.gc import find_garbage
from embed_assets.upkeep.verify import verify_lake
from embed_worker.lake.errors import BadManifest, NotReady
from embed_worker.steps.cut import retire_slices, write_strides
from tests.kits import pipelines as kit
from tests.kits.chaos.figures import record
from tests.kits.compute.in_process import InProcess
from tests.kits.pipelines import Prepared

pytestmark = pytest.mark.slow

DAMAGES = int(os.environ.get("EMBED_CHAOS_DAMAGES", "40"))
"""`make chaos` asks for 200."""
KINDS = ("truncate", "flip", "delete", "swap", "replace", "number")


class Rest:
    """A lake at rest with every kind of committed file: rejects, several shards, two datasets, job files."""

    def __init__(self, folder: Path) -> None:
        self.lake = folder / "lake"
        self.made = []
        for i, name in enumerate("ab"):
            source = kit.write_jsonl(folder / f"{name}.jsonl", [*kit.texts(20, 100 * i), {"key": "x", "text": ""}])
            made = Prepared(self.lake, str(source), name=name)
            for stride in range(3):
                made.embed(stride)
                made.resource.write_job(made.job(stride))
            self.made.append(made)
        self.store = made.store

    def files(self) -> list[Path]:
        """All but heartbeats, which are overwritten every few seconds and prove nothing."""
        return sorted(
            path for path in self.lake.rglob("*") if path.is_file() and not {".tmp", "progress"} & set(path.parts)
        )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Rest:
    return Rest(tmp_path_factory.mktemp("rest"))


@pytest.fixture
def rest(whole: Rest) -> Iterator[Rest]:
    """The lake, put back as it was after the test."""
    kept = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in whole.files()}
    yield whole
    for path in set(whole.files()) - kept.keys():
        path.unlink()
    for path, (data, stamp) in kept.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        os.utime(path, ns=(stamp, stamp))


def hurt(files: list[Path], rng: random.Random) -> list[Path]:
    """Damages one file, or swaps two; the files whose bytes are others now."""
    victim, kind = rng.choice(files), rng.choice(KINDS)
    if kind == "delete" and "jobs" in victim.parts:
        kind = "truncate"  # gc removes the job files of committed partitions itself
    data = bytearray(victim.read_bytes())
    others = [path for path in files if path.suffix == victim.suffix and path.read_bytes() != data]
    if kind == "number" and victim.suffix == ".json":
        spans = [m.span() for m in re.finditer(rb"(?<=[0-9])[0-9](?=[0-9,.\n:])", bytes(data))]
        at = rng.choice(spans)[0]
        data[at] = rng.choice([digit for digit in b"0123456789" if digit != data[at]])
    elif kind in ("truncate", "number"):
        del data[rng.randrange(len(data)) :]
    elif kind == "flip":
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "delete":
        victim.unlink()
        return [victim]
    else:
        other = rng.choice(others)
        if kind == "swap":
            taken = other.read_bytes()
            other.write_bytes(data)
            victim.write_bytes(taken)
            return [victim, other]
        data = bytearray(other.read_bytes())
    victim.write_bytes(data)
    return [victim]


def failed_checks(rest: Rest) -> list[str]:
    """What `files_intact` says of each partition of the three assets where it fails, as their checks-only runs do."""
    found, names = [], ["files_intact"]
    for made in rest.made:
        lake = made.resource
        for latest in (False, True):
            found.append(raw_reviews.check_snapshot(lake, made.dataset, names, latest=latest)["files_intact"])
        shard_jobs = ShardJobs(made.pipeline, lake, print)
        for stride in range(3):
            try:
                job = shard_jobs.job(made.job(stride).shard.key)
                cut = lake.cut(made.raw, made.partitioning)
                assert cut is not None
                view = StrideView(lake.store, cut, stride, job.spans, None)
                found.append(STRIDE_CHECKS["files_intact"](view))
                found.append(shard_run.check_shard(lake, shard_jobs, job, names)[0]["files_intact"])
            except (NotReady, BadManifest) as error:
                found.append(all_failed(names, str(error))["files_intact"])
    return [outcome.description for outcome in found if not outcome.passed]


@pytest.mark.parametrize("seed", range(DAMAGES))
def test_any_damage_of_any_file_is_found_and_named(rest: Rest, seed: int) -> None:
    damaged = hurt(rest.files(), random.Random(seed))
    told = "\n".join(f"{one.where}: {one.what}" for one in verify_lake(rest.store).damages)
    missed = [path for path in damaged if str(path.relative_to(rest.lake)) not in told]
    # Of a slice's bytes beside its rows a stride's check reads nothing, and a part's record is read by ingests only.
    beside = [bool({"jobs", "slices"} & set(p.parts)) or (p.suffix == ".json" and "parts" in p.parts) for p in damaged]
    unchecked = not any(beside) and not failed_checks(rest)
    record(damages=len(damaged), undetected=len(missed) + unchecked)
    assert not missed, told
    assert not unchecked, "no files_intact check failed"


def test_a_sound_lake_is_sound(rest: Rest) -> None:
    assert verify_lake(rest.store).damages == []
    assert failed_checks(rest) == []


@pytest.mark.parametrize("kind", ["bytes", "manifest"])
def test_only_the_damaged_partition_is_made_anew(rest: Rest, kind: str) -> None:
    made = rest.made[0]
    folder = rest.lake / made.job(1).shard.folder
    victim = next(folder.glob("part-*.parquet")) if kind == "bytes" else folder / "_manifest.json"
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in rest.files()}
    content = victim.read_bytes()
    victim.write_bytes(content[:-9] + b"123456789")
    jobs = ShardJobs(made.pipeline, made.resource, print)
    driver = Driver(
        made.resource, InProcess(), [made.job(i) for i in range(3)], tell=lambda text, *, warning=False: print(text),
        prove=lambda job, manifest: prove(jobs.view(job, manifest), SHARD_CHECKS),
    )  # fmt: skip
    outcomes = [outcome for outcome in driver.run() if isinstance(outcome, Committed)]
    assert {outcome.job.shard.key: outcome.adopted for outcome in outcomes} == {
        "a-00000": True,
        "a-00001": False,
        "a-00002": True,
    }
    assert verify_lake(rest.store).damages == []
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before if path.exists()}
    launched = (rest.lake / made.job(1).path).parent  # its job file is written again
    assert {path.parent for path in before if before[path] != after.get(path)} == {folder, launched}


def test_a_damaged_slice_is_made_anew_and_the_others_stay(rest: Rest) -> None:
    made = rest.made[0]
    before = {path: path.stat().st_mtime_ns for path in rest.files()}
    span = made.spans[1][0]
    victim = rest.lake / span.path
    data = bytearray(victim.read_bytes())
    data[span.offset + span.length // 2] ^= 1
    victim.write_bytes(data)
    stamp = victim.stat().st_mtime_ns
    [fault] = retire_slices(made.store, made.strides, made.spans[1])  # as the asset does once it has found the fault
    assert span.path in fault
    write_strides(made.store, made.raw, made.partitioning)
    assert verify_lake(rest.store).damages == []
    changed = {path for path in before if path.stat().st_mtime_ns != before[path]}
    commits = {f"{victim.name.split('.')[0]}.json", f"{made.raw.snapshot}.json"}
    assert {path.name for path in changed} == commits | {victim.name} and victim.stat().st_mtime_ns == stamp
    garbage = [item.path for item in find_garbage(rest.store) if item.path.startswith("stride_partitions/")]
    assert garbage == [span.path]
    rest.store.delete(garbage[0])
    assert verify_lake(rest.store).damages == []
