"""A dataset's table brought to what a set holds: changed or made anew, indexed, measured, published."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from embed_assets.estimate.indexing import IndexPlan, plan_index
from embed_assets.index import ann, change, lance
from embed_assets.index.nearest import Search
from embed_assets.index.recall import cure, make_probes, recall
from embed_assets.index.record import IndexRecord, read_record, write_record
from embed_assets.index.rows import SetRows, check_shards
from embed_assets.spec.index import IndexSpec
from embed_worker.lake import failpoints
from embed_worker.lake.errors import LakeError, StoreUnavailable
from embed_worker.lake.manifests import now
from embed_worker.lake.sets import SetManifest
from embed_worker.lake.spec import digest_of
from resources.lake import Lake

TABLE_FORMAT = 1
"""What changes the table's columns or digests changes it: each table is then made anew."""


class LowRecall(LakeError):
    """A table was made, and a search in it misses too much: it is not published."""

    def __init__(self, dataset: str, found: float, wanted: float, kind: str, cure: str, kept: bool) -> None:
        self.found, self.wanted = found, wanted
        readers = "readers keep the version before" if kept else "nothing is published"
        super().__init__(
            f"recall@10 of {dataset} is {found:.3f} with {kind}, index.min_recall is {wanted:g}: {readers}. {cure}"
        )


@dataclass(frozen=True)
class Built:
    """The published table, and whether this call changed it."""

    record: IndexRecord
    created: bool


def build_index(lake: Lake, found: SetManifest, spec: IndexSpec) -> Built:
    """Readers see the version before until the new one is whole, indexed and measured. Raises LowRecall, and what
    `SetRows` raises."""
    begun = time.monotonic()
    record = read_record(lake.store, found.dataset, found.spec_id)
    with lance.lance_errors(lake, found.dataset):
        table = lance.open_version(lake, record) if record is not None else None
        if table is None or record is None or table.count_rows() != record.rows:
            record = table = None
        if record is not None and record.key == key_of(found, spec):
            check_shards(lake, found)
            return Built(record, False)
        with lake.store.scratch() as scratch:
            made = _Making(lake, found, spec, SetRows(lake, found, spec.columns, scratch), record, table)
            return Built(made.publish(begun), True)


def key_of(found: SetManifest, spec: IndexSpec) -> str:
    """Digest of all that decides a published table."""
    return digest_of([TABLE_FORMAT, found.digest, spec.model_dump(mode="json")], length=16)


class _Making:
    def __init__(
        self, lake: Lake, found: SetManifest, spec: IndexSpec, rows: SetRows, record: IndexRecord | None, table: Any
    ) -> None:
        self._lake, self._set, self._spec, self._rows, self._record = lake, found, spec, rows, record
        self._search = Search(spec.nprobes, spec.refine_factor)
        self._added = self._removed = 0
        self._plan = self._planned()
        self._table = table

    def publish(self, begun: float) -> IndexRecord:
        rebuilt = self._record is None or not self._follows(self._record)
        kept = self._rebuild() if rebuilt else self._change()
        reached = self._measured(kept.trained)
        table, found, spec = self._table, self._set, self._spec
        deleted = self._deleted()
        record = IndexRecord(
            created_at=now(), dataset=found.dataset, spec_id=found.spec_id, set_digest=found.digest,
            key=key_of(found, spec), method=found.method, count=found.count, units=self._rows.units,
            columns=dict(spec.columns), version=lance.protect(table), rows=table.count_rows(), type=self._plan.type,
            nprobes=spec.nprobes, refine_factor=spec.refine_factor, recall=reached, full_text=spec.full_text,
            table_bytes=int(table.stats()["total_bytes"]), index_bytes=ann.index_bytes(table),
            unindexed=ann.unindexed(table), deleted=deleted, trained_rows=self._trained_rows, added=self._added,
            removed=self._removed, rebuilt=rebuilt, seconds=round(time.monotonic() - begun, 3),
        )  # fmt: skip
        failpoints.reach("index.measured")
        write_record(self._lake.store, record)
        failpoints.reach("index.published")
        if rebuilt or kept.optimized:
            lance.sweep(table)
        return record

    def _planned(self) -> IndexPlan:
        found = self._set
        bytes_a_value = 2 if found.dtype == "float16" else 4
        text = self._rows.text_bytes
        return plan_index(found.windows, found.dimension or 1, bytes_a_value, text, wanted=self._spec.type)

    def _follows(self, record: IndexRecord) -> bool:
        """Whether the table can be changed into the new one."""
        found = self._set
        same_cut = (record.method, record.count) == (found.method, found.count)
        return same_cut and record.columns == self._spec.columns and _fits(self._table.schema, self._rows.schema)

    def _rebuild(self) -> ann.Kept:
        self._check_space(self._plan.table_bytes + self._plan.bytes)
        found, batches = self._set, _Batches(self._rows.all())
        database = lance.database(self._lake, found.spec_id)
        try:
            data = pa.RecordBatchReader.from_batches(self._rows.schema, iter(batches))
            self._table = database.create_table(found.dataset, data=data, mode="overwrite")
        except Exception as error:
            raise batches.failure or error from error  # LanceDB wraps what went wrong while it was reading
        failpoints.reach("index.created")
        self._added, self._removed = self._table.count_rows(), self._record.rows if self._record else 0
        self._train()
        return ann.Kept(trained=True)

    def _change(self) -> ann.Kept:
        record = self._record
        assert record is not None
        reading = lance.open_version(self._lake, record)
        lance.at_newest(self._table, record)
        difference = change.Difference(reading, record, self._rows)
        batches = _Batches(difference.new())
        try:
            change.append(self._table, iter(batches), self._rows.schema)
        except Exception as error:
            raise batches.failure or error from error
        change.delete(self._table, difference.gone)
        self._added, self._removed = difference.added, len(difference.gone)
        kept = ann.keep_index(
            self._table, self._plan.type, full_text=self._spec.full_text, trained_rows=record.trained_rows,
            deleted=self._deleted(),
        )  # fmt: skip
        self._trained_rows = self._table.count_rows() if kept.trained else record.trained_rows
        return kept

    def _train(self) -> None:
        ann.make_index(self._table, self._plan.type, full_text=self._spec.full_text)
        self._trained_rows = self._table.count_rows()

    def _measured(self, trained_anew: bool) -> float | None:
        """Recall, None where the search is exact. An index that has lost it by changes is trained anew first."""
        wanted = self._spec.min_recall
        if self._plan.type == "none" or not self._table.count_rows():
            return None
        probes = make_probes(self._table)
        found = recall(self._table, probes, self._search)
        if found < wanted and not trained_anew:
            self._train()
            found = recall(self._table, probes, self._search)
        if found >= wanted:
            return round(found, 4)
        what = cure(self._table, probes, self._search, wanted)
        if self._record is not None:
            lance.at_newest(self._table, self._record)
        raise LowRecall(self._set.dataset, found, wanted, self._plan.type, what, self._record is not None)

    def _deleted(self) -> int:
        """Rows of the table's files that were deleted."""
        lengths = next(v["metadata"] for v in self._table.list_versions() if v["version"] == self._table.version)
        return int(lengths["total_deletion_file_rows"])

    def _check_space(self, wanted: int) -> None:
        store = self._lake.store
        if not store.is_local:
            return
        root = Path(store.path("vector_index"))
        free = shutil.disk_usage(next(path for path in (root, *root.parents) if path.exists())).free
        if wanted > free:
            raise StoreUnavailable(
                f"the table of {self._set.dataset} takes about {wanted / 1e9:,.2f} GB ({self._set.windows:,} vectors "
                f"of {self._set.dimension}, passages, {self._plan.type}), and {store.root} has "
                f"{free / 1e9:,.2f} GB free: free some space, or point EMBED_LAKE elsewhere; nothing was written"
            )


def _fits(there: pa.Schema, wanted: pa.Schema) -> bool:
    return [(f.name, f.type) for f in there] == [(f.name, f.type) for f in wanted]


class _Batches:
    """Record batches for LanceDB; keeps the fault that ended them."""

    def __init__(self, source: Iterator[pa.RecordBatch]) -> None:
        self._source = source
        self.failure: Exception | None = None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._source
        except Exception as error:
            self.failure = error
            raise
