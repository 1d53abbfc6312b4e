"""The sets of a lake, for those who clean up behind them."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from embed_worker.lake import layout
from embed_worker.lake.errors import BadManifest
from embed_worker.lake.layout import CURRENT
from embed_worker.lake.manifests import read_manifest
from embed_worker.lake.parallel import in_parallel
from embed_worker.lake.sets import CurrentSet, SetManifest
from embed_worker.lake.store import Store

SETS = "embedding_sets"


def read_sets(
    store: Store, paths: Sequence[str], keep: Mapping[str, int] = MappingProxyType({})
) -> dict[str, tuple[SetManifest, bool]]:
    """Path of each set → the set, and whether it is kept: the current one of its dataset and spec, and the youngest
    as many as `keep` has for the dataset. `paths`: all files there.

    Where one of a dataset and spec cannot be read, none of them is told: it condemns nothing.
    """
    found: dict[str, tuple[SetManifest, bool]] = {}
    for folder in sorted({path.rpartition("/")[0] for path in paths if path.count("/") == 4}):
        names = [path for path in paths if path.startswith(f"{folder}/") and _is_set(path)]
        try:
            current = read_manifest(store, f"{folder}/{CURRENT}", CurrentSet)
            made = in_parallel(lambda path: read_manifest(store, path, SetManifest), names)
        except BadManifest:
            continue
        there = [(path, one) for path, one in zip(names, made, strict=True) if one is not None]
        there.sort(key=lambda each: each[1].created_at, reverse=True)
        for place, (path, one) in enumerate(there):
            is_current = current is not None and path == f"{folder}/{current.set_digest}.json"
            found[path] = one, is_current or place < keep.get(one.dataset, 1)
    return found


def _is_set(path: str) -> bool:
    return path.endswith(".json") and not path.endswith(f"/{CURRENT}") and not layout.is_temporary(path)
