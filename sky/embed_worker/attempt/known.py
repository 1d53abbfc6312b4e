"""What is known of a job's texts: vectors of earlier shards on the scratch disk, found by the texts' keys.

Memory holds 40 bytes a distinct text of the input and the keys of one row group; vectors go from file to file.
"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from embed_worker.attempt.bases import Base, Unusable, copy, find, open_base, without_tokens
from embed_worker.lake import failpoints, layout
from embed_worker.lake.errors import BadManifest
from embed_worker.lake.identity import KEY_BYTES, KEY_TYPE, sortable
from embed_worker.lake.job import EmbedJob
from embed_worker.lake.layout import ShardId
from embed_worker.lake.manifests import Reused, Space, read_manifest
from embed_worker.lake.store import Store

log = logging.getLogger(__name__)


class Known:
    """Texts of which earlier shards have all windows, or say that they have none."""

    def __init__(self, texts: np.ndarray, scratch: Path) -> None:
        """`texts`: sorted keys of those that are not blank, each once."""
        self._texts, self._scratch = texts, scratch
        self._begins = np.full(len(texts), -1, np.int64)
        self._counts = np.zeros(len(texts), np.int32)
        self._from = np.full(len(texts), -1, np.int32)
        self._file = scratch / "reused.records"
        self._records: np.ndarray | None = None
        self.bases: list[Base] = []

    @property
    def complete(self) -> bool:
        """Whether no text needs an engine. Without a base nothing is known, not even of no text."""
        return bool(self.bases) and not self._unknown.size

    @property
    def _unknown(self) -> np.ndarray:
        return np.flatnonzero(self._from < 0)

    def may_gain(self, shard: ShardId) -> bool:
        """Whether a shard's range of keys holds a text that is not known."""
        if shard.method != "content":
            return bool(self._unknown.size)
        keys = pa.Array.from_buffers(KEY_TYPE, len(self._texts), [None, pa.py_buffer(self._texts)])
        places = shard.partitioning.stride_of(np.array([]), keys, 0)
        return bool((places[self._unknown] == shard.stride).any())

    def take(self, store: Store, base: Base, *, windows: bool = True) -> int:
        """Takes what a base has and is not known yet; how many texts. Raises Unusable, then nothing is taken.

        Without `windows`, it is only found.
        """
        unknown = self._unknown
        empty = np.isin(self._texts[unknown], without_tokens(store, base, self._scratch))
        wanted = self._texts[unknown]
        hits = find(store, base, wanted) if len(wanted) else None
        number = len(self.bases)
        if hits is not None and len(hits.wanted):
            size = base.record().itemsize
            with self._file.open("ab") as sink:
                at = sink.tell()
                try:
                    if windows:
                        copy(store, base, hits, wanted, self._scratch, sink)
                    sink.flush()
                except BaseException:
                    sink.truncate(at)
                    raise
            begins = np.flatnonzero(np.diff(hits.wanted, prepend=-1))
            texts = unknown[hits.wanted[begins]]
            self._begins[texts] = at // size + begins
            self._counts[texts] = np.diff(begins, append=len(hits.wanted))
            self._from[texts] = number
        self._from[unknown[empty]] = number
        self.bases.append(base)
        self._records = None
        return int((self._from == number).sum())

    def places(self, keys: Sequence[bytes]) -> np.ndarray:
        """Of each text its place here, -1 where it is not known."""
        if not len(self._texts):
            return np.full(len(keys), -1)
        given = np.frombuffer(b"".join(keys), f"S{KEY_BYTES}")
        at = np.minimum(np.searchsorted(self._texts, given), len(self._texts) - 1)
        return np.where((self._texts[at] == given) & (self._from[at] >= 0), at, -1)

    def windows(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of known texts: the first of their windows' records, and how many there are."""
        return self._begins[places], self._counts[places]

    def records(self, at: np.ndarray) -> np.ndarray:
        """Windows: n_tokens, char_start, char_end, vector."""
        if self._records is None:
            self._records = np.memmap(self._file, self.bases[0].record(), "r")
        found: np.ndarray = self._records[at]
        return found

    def reused(self, places: np.ndarray, windows: np.ndarray, tokens: np.ndarray) -> list[Reused]:
        """From where rows of known texts are taken; `windows` and `tokens` of each row."""
        found = []
        for number in np.unique(self._from[places]).tolist():
            of = self._from[places] == number
            counts = {"rows": of.sum(), "windows": windows[of].sum(), "tokens": tokens[of].sum()}
            base = self.bases[number]
            about = {"folder": base.shard.folder, "data_version": base.manifest.data_version}
            found.append(Reused(**about, **{name: int(count) for name, count in counts.items()}))
        return found


def keys_of(tables: Iterable[pa.Table]) -> np.ndarray:
    """Sorted keys of the texts that are not blank, each once."""
    found = []
    for table in tables:
        said = np.fromiter((bool(text.strip()) for text in table.column("text").to_pylist()), bool, table.num_rows)
        found.append(np.unique(sortable(table.column("text_key"))[said]))
    return np.unique(np.concatenate(found)) if found else np.array([], f"S{KEY_BYTES}")


def gather(store: Store, job: EmbedJob, texts: np.ndarray, scratch: Path, unusable: dict[str, str]) -> Known | None:
    """Takes what the job's earlier shards know of the texts; None where none of them may be used. Tells `unusable` why
    a folder, or the space's canary vectors, are not."""
    known = _gathered(store, job, texts, scratch, unusable, windows=True)
    failpoints.reach("reuse.gathered")
    return known


def all_known(store: Store, job: EmbedJob, texts: np.ndarray, scratch: Path) -> bool:
    """Whether the job's earlier shards have all texts, by their keys alone."""
    known = _gathered(store, job, texts, scratch, {}, windows=False)
    return known is not None and known.complete


def _gathered(
    store: Store, job: EmbedJob, texts: np.ndarray, scratch: Path, unusable: dict[str, str], *, windows: bool
) -> Known | None:
    known = Known(texts, scratch)
    space = _space(store, job, unusable) if job.reuse else None
    if space is None:
        return None
    passed: list[ShardId] = []
    for shard in job.reuse:
        if known.complete:
            break
        if known.may_gain(shard):
            _take(known, store, job, shard, space, unusable, windows)
        else:
            passed.append(shard)
    for shard in passed:  # whose canaries and engine can stand for a shard of blank texts, or of none
        if known.bases or len(texts):
            break
        _take(known, store, job, shard, space, unusable, windows)
    return known if known.bases else None


def _take(
    known: Known, store: Store, job: EmbedJob, shard: ShardId, space: Space, unusable: dict[str, str], windows: bool
) -> None:
    try:
        texts = known.take(store, open_base(store, shard, space), windows=windows)
    except Unusable as why:
        unusable[shard.folder] = str(why)
        log.warning("%s: nothing is reused from %s: %s", job.shard.key, store.url(shard.folder), why)
    else:
        log.info("%s: %d texts are known from %s", job.shard.key, texts, shard.folder)


def _space(store: Store, job: EmbedJob, unusable: dict[str, str]) -> Space | None:
    path = layout.canaries_file(job.shard.spec_id)
    try:
        space = read_manifest(store, path, Space)
        if space is not None:
            space.canaries.array()
            return space
        why = "the spec has no canary vectors in the lake"
    except (BadManifest, ValueError) as error:
        why = str(error)
    unusable[path] = why
    log.warning("%s: nothing is reused: %s", job.shard.key, why)
    return None
