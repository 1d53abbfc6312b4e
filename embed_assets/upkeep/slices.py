"""Proves the slices of cuts: each file once, whole and with the rows that its commit says."""

from collections.abc import Callable

import pyarrow as pa

from embed_worker.lake import damage, files, layout
from embed_worker.lake.damage import Damage
from embed_worker.lake.errors import BadManifest, DamagedData
from embed_worker.lake.identity import RowsDigest
from embed_worker.lake.manifests import SliceManifest, StridesManifest, read_manifest
from embed_worker.lake.store import Store
from embed_worker.lake.strides import Stride
from embed_worker.steps.spans import Spans


class SliceProof:
    """What is wrong goes to `damages`; `progress` is told each file before it is read."""

    def __init__(self, store: Store, damages: list[Damage], progress: Callable[[str], None]) -> None:
        self._store, self._damages, self._progress = store, damages, progress
        self._known: set[str] = set()
        """Paths of commits, looked at."""

    def prove(self, path: str, cut: StridesManifest) -> None:
        """Each slice of a cut is whole, and together they hold each stride's rows. `path`: of the cut."""
        sums = [RowsDigest()] * cut.count
        for name in cut.slices:
            commit = layout.slice_file(cut.folder, name)
            try:
                made = read_manifest(self._store, commit, SliceManifest)
            except BadManifest as error:
                self._damages.append(damage.of_manifest(self._store, commit, error))
                return
            if made is None:
                what = f"is missing, but {path} lists its slice; materialize stride_partitions again"
                self._damages.append(Damage(commit, what))
                return
            spans = Spans(cut.folder, [made])
            for stride in range(cut.count):
                sums[stride] += sum((RowsDigest.parse(one.rows, one.digest) for one in spans[stride]), RowsDigest())
            if commit not in self._known:
                self._known.add(commit)
                self._file(cut, made, spans)
        for stride, (whole, entry) in enumerate(zip(sums, cut.strides, strict=True)):
            if whole != RowsDigest.parse(entry.rows, entry.digest):
                self._damages.append(Damage(path, f"stride {stride}: its rows are not those of the slices"))

    def _file(self, cut: StridesManifest, made: SliceManifest, spans: Spans) -> None:
        where = f"{cut.folder}/{made.file.path}"
        self._progress(where)
        with self._store.scratch() as scratch:
            local, fault = files.bring(self._store, cut.folder, made.file, scratch)
            if local is None or fault is not None:
                self._damages.append(Damage(where, fault or "is missing"))
                return
            data = pa.memory_map(str(local)).read_buffer()
            try:
                for span in (span for stride in range(cut.count) for span in spans[stride]):
                    rows = Stride([span], [data.slice(span.offset, span.length)])
                    rows.prove(RowsDigest.parse(span.rows, span.digest))
            except DamagedData as error:
                self._damages.append(Damage(where, str(error)))
