"""Whether the files of the lake are those that their manifests name."""

from collections.abc import Iterable

from embed_worker.lake import files, layout
from embed_worker.lake.errors import BadManifest
from embed_worker.lake.files import FileRef
from embed_worker.lake.manifests import ShardManifest, Space, ensure_space, read_manifest
from embed_worker.lake.store import Store


def file_faults(store: Store, folder: str, listed: Iterable[FileRef]) -> list[str]:
    """One sentence for each file that is missing, cut or changed."""
    found = (files.fault_of(store, folder, file) for file in listed)
    return [fault for fault in found if fault is not None]


def space_fault(store: Store, spec_id: str) -> str | None:
    """What is wrong with the file of a spec's canary vectors, or None where it is whole."""
    path = layout.canaries_file(spec_id)
    try:
        space = read_manifest(store, path, Space)
        if space is None:
            return f"{store.url(path)} is missing; materialize any partition of the spec to restore it"
        space.canaries.array()
    except (BadManifest, ValueError) as error:
        return f"{error}; materialize any partition of the spec to restore it"
    return None


def restore_space(store: Store, manifest: ShardManifest) -> str | None:
    """Puts a shard's canary vectors in the place of a file that is missing or damaged; says what was wrong.

    Shards that disagree with them fail their check afterwards, whichever shard this is.
    """
    if manifest.canaries is None or (fault := space_fault(store, manifest.shard.spec_id)) is None:
        return None
    store.delete(layout.canaries_file(manifest.shard.spec_id))
    ensure_space(store, manifest)
    return fault
