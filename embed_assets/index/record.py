"""Which version of a dataset's table readers take, and what it is: one small file, replaced in one step."""

from pydantic import Field

from embed_assets.estimate.indexing import IndexType
from embed_worker.lake import layout
from embed_worker.lake.layout import Method
from embed_worker.lake.manifests import Manifest, read_manifest
from embed_worker.lake.reading import Readable
from embed_worker.lake.seal import sealed
from embed_worker.lake.store import Store

TAG = "published"
"""Also a tag of the table, so that LanceDB keeps the version, and readers without us find it."""


class IndexRecord(Manifest):
    """The published version of a table."""

    dataset: str
    spec_id: str
    set_digest: str
    """Of the set that the table holds."""
    key: str
    """Digest of the set and of all that the spec says of the table: its data version."""
    method: Method
    count: int
    units: dict[int, str]
    """Stride → digest of what it gave. Those that are the same in another set are not read again."""
    columns: dict[str, str]
    version: int
    """LanceDB's."""
    rows: int
    """One a vector."""
    type: IndexType
    nprobes: int | None
    refine_factor: int
    recall: float | None
    """At 10, against exact search; None where the search is exact."""
    full_text: bool
    table_bytes: int
    index_bytes: int
    unindexed: int
    """Rows that came after the index was made: a search looks at each."""
    deleted: int
    """Rows that still lie in the table's files, and are in no search."""
    trained_rows: int
    """Rows when the index was made from nothing."""
    added: int = 0
    removed: int = 0
    """Of the last change; an edited row is both."""
    rebuilt: bool = True
    seconds: float = Field(default=0.0, ge=0)


def read_record(store: Readable, dataset: str, spec_id: str) -> IndexRecord | None:
    """None before the first. Raises BadManifest."""
    return read_manifest(store, layout.index_record(dataset, spec_id), IndexRecord)


def write_record(store: Store, record: IndexRecord) -> None:
    path = layout.index_record(record.dataset, record.spec_id)
    store.replace(path, sealed(path, record.model_dump(mode="json")))
