"""One dataset under fire: ingests and cuts of it, killed, and the proof of what they leave."""

from collections import Counter
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

from embed_assets.spec import DatasetSpec
from embed_assets.upkeep import gc, leases
from embed_worker.lake import layout
from embed_worker.lake.manifests import SliceManifest, StridesManifest, read_manifest
from embed_worker.lake.snapshots import RawManifest
from embed_worker.lake.store import Store
from embed_worker.lake.strides import bring
from embed_worker.steps.spans import spans_of
from tests.kits import pipelines as kit
from tests.kits.chaos.figures import record
from tests.kits.chaos.steps_process import Steps, take_steps
from tests.kits.chaos.worker_process import KILLED
from tests.kits.chaos.worker_storm import PATIENCE, SERVER

STRIDES = 5
REJECTED = {"k13", "k113"}
TWINS = {"k7": 2}
"""Ids that come again, and how often."""


def write_source(folder: Path) -> list[Path]:
    """Two files, each of several parts, with rejects and twins."""
    records = [{**one, "text": " " if one["key"] in REJECTED else one["text"]} for one in kit.texts(240)]
    records += [{"key": key, "text": "again", "n": 0} for key, count in TWINS.items() for _ in range(count)]
    folder.mkdir(parents=True, exist_ok=True)
    return [
        kit.write_jsonl(folder / "a.jsonl", records[:100]),
        kit.write_jsonl(folder / "b.jsonl", records[100:]),
    ]


class Dataset:
    """A source and a lake. Every process that works on it is gone when the `with` ends."""

    def __init__(self, root: str, folder: Path) -> None:
        self.folder, self.store = folder, Store(root)
        sources = write_source(folder / "source")
        self.dataset = kit.dataset([str(path) for path in sources], id="{key}", strides=STRIDES, partitioning="content")
        self.kills = 0
        self._processes: list[ForkServerProcess] = []

    def __enter__(self) -> "Dataset":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            if process.is_alive():
                process.kill()
            process.join()
            process.close()

    def run(self, armed: str = "", kill_after: float | None = None) -> int:
        """The exit code. What was committed before is there as it was."""
        before = self._committed()
        spec: dict[str, Any] = self.dataset.model_dump()
        orders = Steps(self.store.root, spec, STRIDES, str(self.folder), armed)
        process = SERVER.Process(target=take_steps, args=(orders,))
        process.start()
        self._processes.append(process)
        if kill_after is not None:
            process.join(kill_after)
            if process.is_alive():
                process.kill()
        process.join(PATIENCE)
        assert process.exitcode in (0, KILLED), f"exit code {process.exitcode}\n{self.log()}"
        self.kills += process.exitcode == KILLED
        after = self._committed()
        assert before.items() <= after.items(), f"gone or changed: {before.keys() - after.keys()}\n{self.log()}"
        return process.exitcode

    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text()[-8_000:] if path.exists() else ""

    def _committed(self) -> dict[str, bytes]:
        """The commits of parts, snapshots, slices and cuts."""
        names = [path for folder in ("raw_reviews", "stride_partitions") for path, _ in self.store.walk(folder)]
        moving = ("/_base.json", "/_latest.json", "/_seen.json")
        return {name: self.store.read(name) for name in names if name.endswith(".json") and not name.endswith(moving)}

    @property
    def is_cut(self) -> bool:
        return any(
            "/slices/" not in path and path.endswith(".json") for path, _ in self.store.walk("stride_partitions")
        )

    # -- proof -------------------------------------------------------------------------------------------------

    def prove(self, undisturbed: tuple[str, list[Any]] | None = None) -> tuple[str, list[Any]]:
        """Every row once, in the snapshot and in the strides; nothing left over. The snapshot, and its rows."""
        assert self.run() == 0
        raw = self._raw()
        rows = kit.raw_rows(self.store, raw)
        wanted = {row["key"]: row["text"] for row in kit.texts(240) if row["key"] not in REJECTED}
        cut = read_manifest(self.store, layout.cut_file(self._cut_folder, raw.snapshot), StridesManifest)
        assert cut is not None
        strided = self._strided(cut)
        found = {"raw": Counter(row["id"] for row in rows), "cut": Counter(strided)}
        lost = sum(len(wanted.keys() - ids.keys()) for ids in found.values())
        doubled = sum(count - 1 for ids in found.values() for count in ids.values())
        self._remove_garbage()
        orphans = self._orphans(raw, cut)
        record(kills=self.kills, lost=lost, doubled=doubled, orphans=len(orphans))
        assert (lost, doubled, orphans) == (0, 0, []), self.log()
        assert {row["id"]: row["text"] for row in rows} == wanted
        rejects = Counter(one["id"] for one in kit.rejects(self.store, raw))
        assert rejects == Counter([*REJECTED, *Counter(TWINS).elements()])
        told = (raw.snapshot, rows)
        assert undisturbed is None or told == undisturbed
        return told

    def _raw(self) -> RawManifest:
        folder = layout.raw_folder(self.dataset.name, self.dataset.ingest_id)
        paths = [path for path, _ in self.store.walk(f"{folder}/snapshots") if path.endswith(".json")]
        assert len(paths) == 1
        found = read_manifest(self.store, paths[0], RawManifest)
        assert found is not None
        return found

    @property
    def _cut_folder(self) -> str:
        dataset: DatasetSpec = self.dataset
        return layout.strides_folder(dataset.name, dataset.ingest_id, dataset.cut)

    def _strided(self, cut: StridesManifest) -> list[str]:
        spans, ids = spans_of(self.store, cut), list[str]()
        with self.store.scratch() as scratch:
            for stride in range(STRIDES):
                there = bring(self.store, spans[stride], scratch)
                ids += [id_ for table in there.batches() for id_ in table.column("id").to_pylist()]
        return ids

    def _remove_garbage(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(leases, "LIVE_SECONDS", 0.0)
            patch.setattr(leases, "WAIT_SECONDS", 0.0)
            patch.setattr(gc, "SCRATCH_SECONDS", 0.0)
            for item in list(gc.find_garbage(self.store)):
                self.store.delete(item.path)

    def _orphans(self, raw: RawManifest, cut: StridesManifest) -> list[str]:
        """Files that no manifest accounts for."""
        slices = [layout.slice_file(cut.folder, name) for name in cut.slices]
        made = [read_manifest(self.store, path, SliceManifest) for path in slices]
        accounted = {
            raw.path,
            layout.raw_base(raw.dataset, raw.ingest_id),
            layout.raw_latest(raw.dataset, raw.ingest_id),
            layout.raw_seen(raw.dataset, raw.ingest_id),
            *(f"{raw.folder}/{layout.part_record(part.part_id)}" for part in raw.parts),
            *(f"{raw.folder}/{file.path}" for part in raw.parts for file in (part.file, part.rejects) if file),
            *([f"{raw.folder}/{raw.rejects.path}"] if raw.rejects else []),
            layout.cut_file(cut.folder, cut.snapshot),
            *slices,
            *(f"{cut.folder}/{one.file.path}" for one in made if one),
        }
        return [path for path, _ in self.store.walk("") if path not in accounted]
