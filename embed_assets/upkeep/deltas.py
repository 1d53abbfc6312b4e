"""The proof of deltas: each leads from its base to its latest, and its file of removed rows is whole."""

from embed_worker.lake import damage, layout
from embed_worker.lake.damage import Damage
from embed_worker.lake.deltas import DeltaManifest
from embed_worker.lake.errors import BadManifest
from embed_worker.lake.files import fault_of
from embed_worker.lake.identity import RowsDigest
from embed_worker.lake.manifests import read_manifest
from embed_worker.lake.store import Store


def prove_deltas(
    store: Store, dataset: str, ingest_id: str, rows: dict[tuple[str, str], RowsDigest], damages: list[Damage]
) -> None:
    """`rows`: of snapshots by dataset and name, where what the deltas add is noted, too."""
    folder = f"{layout.raw_folder(dataset, ingest_id)}/{layout.DELTAS}"
    for name in store.list(folder):
        if name.endswith(".json") and not layout.is_temporary(name):
            damages += _faults(store, f"{folder}/{name}", rows)


def _faults(store: Store, path: str, rows: dict[tuple[str, str], RowsDigest]) -> list[Damage]:
    try:
        delta = read_manifest(store, path, DeltaManifest)
    except BadManifest as error:
        return [damage.of_manifest(store, path, error)]
    if delta is None:
        return []
    if delta.path != path:
        return [Damage(path, f"belongs to {delta.path}, not here")]
    added = RowsDigest.parse(delta.rows, delta.rows_digest)
    rows[delta.dataset, delta.snapshot] = added
    cure = damage.cure_of(path)
    faults = [(file, fault_of(store, delta.folder, file)) for file in delta.listed]
    found = [Damage(f"{delta.folder}/{file.path}", f"{fault}; {cure}") for file, fault in faults if fault]
    base, latest = (rows.get((delta.dataset, name)) for name in (delta.base, delta.latest))
    if base is None or latest is None:
        return found  # gc takes snapshots first
    if base - RowsDigest.parse(delta.rows_removed, delta.removed_digest) + added != latest:
        found.append(Damage(path, f"does not lead from its base to its latest; {cure}"))
    return found
