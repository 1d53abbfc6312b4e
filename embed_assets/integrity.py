"""Whether the files of the lake are those that their manifests name."""

from collections.abc import Iterable

from embed_worker import files
from embed_worker.files import FileRef
from embed_worker.manifests import ShardManifest
from embed_worker.store import Store


def file_faults(store: Store, folder: str, listed: Iterable[FileRef | None]) -> list[str]:
    """One sentence for each file that is missing, cut or changed."""
    found = (files.fault_of(store, folder, file) for file in listed if file is not None)
    return [fault for fault in found if fault is not None]


def shard_fault(store: Store, folder: str, manifest: ShardManifest) -> str | None:
    """The first fault of a shard's files, or None where it is whole."""
    faults = file_faults(store, folder, [*manifest.files, manifest.rejects])
    return faults[0] if faults else None
