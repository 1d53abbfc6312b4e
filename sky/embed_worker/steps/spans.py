"""Where the rows of each stride of a cut lie."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from embed_worker.lake import layout
from embed_worker.lake.errors import DamagedData
from embed_worker.lake.identity import RowsDigest
from embed_worker.lake.manifests import SliceManifest, StridesManifest, read_manifest
from embed_worker.lake.store import Store
from embed_worker.lake.strides import Span

READS = 16


class Spans:
    """Of a cut's strides: `spans[stride]`. Holds 40 bytes a stride and slice."""

    def __init__(self, folder: str, slices: list[SliceManifest]) -> None:
        self._paths = [f"{folder}/{one.file.path}" for one in slices]
        self._lines = [one.lines for one in slices]

    def __getitem__(self, stride: int) -> list[Span]:
        found = []
        for path, lines in zip(self._paths, self._lines, strict=True):
            line = lines[stride]
            if line["rows"]:
                found.append(span_of(path, line))
        return found


def span_of(path: str, line: np.void) -> Span:
    """A line of a slice's table."""
    digest = RowsDigest.of_sums(int(line["rows"]), line["digest"])
    place = {name: int(line[name]) for name in ("offset", "length", "rows")}
    return Span(path=path, digest=str(digest), **place)


def spans_of(store: Store, cut: StridesManifest) -> Spans:
    """Reads the commits of all slices. Raises DamagedData, or BadManifest, where one is not there."""

    def read(name: str) -> SliceManifest:
        path = layout.slice_file(cut.folder, name)
        if (made := read_manifest(store, path, SliceManifest)) is None:
            raise DamagedData(f"{store.url(path)} is missing")
        return made

    with ThreadPoolExecutor(READS) as pool:
        return Spans(cut.folder, list(pool.map(read, cut.slices)))
