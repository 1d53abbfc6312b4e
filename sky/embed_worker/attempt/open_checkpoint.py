"""From the rows of a checkpoint to what the engine is given, and from its vectors to a table."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from embed_worker.attempt.checkpoints import Reject
from embed_worker.attempt.known import Known
from embed_worker.engine.tokens import TextTokenizer
from embed_worker.errors import NeedsEngine
from embed_worker.lake.identity import KEY_TYPE
from embed_worker.lake.manifests import Reused
from embed_worker.lake.table import embedding_column

if TYPE_CHECKING:
    from embed_worker.attempt.vector_cache import VectorCache

WINDOW = ("row", "number", "tokens", "start", "end", "sequence")


@dataclass
class OpenCheckpoint:
    """One checkpoint on its way through the engine. Arrays have one entry a window, in final order."""

    index: int
    rows: int
    row_of: np.ndarray
    """Of each window, its row in the checkpoint."""
    ids: list[str]
    """Of each row, as `keys`."""
    keys: list[bytes]
    numbers: np.ndarray
    """Of each window in its row's text, from 0."""
    n_tokens: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    sequence_of: np.ndarray
    """-1 of a window that is known."""
    sequences: list[tuple[int, ...]]
    """Distinct token sequences; identical ones are embedded once."""
    rejects: dict[int, str]
    """Rows that give no window, and why."""
    known: Known | None = None
    record_of: np.ndarray = field(default_factory=lambda: np.array([], np.int64))
    """Of each window that is known."""
    places: np.ndarray = field(default_factory=lambda: np.array([], np.int64))
    """Of each row that is known, among the known texts."""
    todo: list[int] = field(default_factory=list)
    """Sequences that the engine is asked for."""
    recalled: int = 0
    """Sequences whose vector an earlier checkpoint had already."""
    vectors: np.ndarray | None = None
    open: int = 0
    without_vector: dict[int, str] = field(default_factory=dict)

    def begin(self, dimension: int, dtype: str) -> None:
        self.vectors = np.empty((len(self.sequences), dimension), dtype=dtype)
        self.open = len(self.sequences)

    def recall(self, cache: "VectorCache") -> int:
        """Takes the vectors that are known already; returns how many are left to do."""
        left = []
        for sequence in self.todo:
            if (vector := cache.get(self.sequences[sequence])) is None:
                left.append(sequence)
            else:
                self.put(sequence, vector)
        self.recalled = len(self.todo) - len(left)
        self.todo = left
        return self.open

    def put(self, sequence: int, vector: np.ndarray | str) -> bool:
        """Takes one result; True when it was the last."""
        assert self.vectors is not None
        if isinstance(vector, str):
            self.without_vector[sequence] = vector
        else:
            with np.errstate(over="ignore"):
                self.vectors[sequence] = vector
            if not np.isfinite(self.vectors[sequence]).all():  # also what overflows in float16
                self.without_vector[sequence] = "non-finite vector"
        self.open -= 1
        return self.open == 0

    def all_rejects(self) -> list[Reject]:
        """Rejects of reading and of the engine, in the rows' order. A row with one window without a vector is rejected
        whole."""
        reasons = dict(self.rejects)
        for window, sequence in enumerate(self.sequence_of):
            if (reason := self.without_vector.get(int(sequence))) is not None:
                reasons[int(self.row_of[window])] = reason
        return [Reject(id=self.ids[row], text_key=self.keys[row].hex(), reason=reasons[row]) for row in sorted(reasons)]

    def kept(self) -> np.ndarray:
        """Positions of the windows whose rows are not rejected."""
        if not self.without_vector:
            return np.arange(len(self.row_of))
        bad = self.row_of[np.isin(self.sequence_of, list(self.without_vector))]
        return np.flatnonzero(~np.isin(self.row_of, bad))

    @property
    def duplicates(self) -> int:
        """Windows that are not computed because the same tokens are, or were."""
        return int((self.sequence_of >= 0).sum()) - len(self.sequences) + self.recalled

    def reused(self) -> list[Reused]:
        """From which earlier shards rows are taken."""
        if self.known is None or not len(self.places):
            return []
        of_known = self.sequence_of < 0
        _, counts = self.known.windows(self.places)
        row_of = np.repeat(np.arange(len(counts)), counts)
        tokens = np.bincount(row_of, self.n_tokens[of_known], len(counts))
        return self.known.reused(self.places, counts, tokens)

    def table(self, schema: pa.Schema) -> pa.Table | None:
        """The checkpoint's rows in the shard's schema, in their order and that of their windows; None without rows."""
        keep = self.kept()
        if not len(keep):
            return None
        assert self.vectors is not None
        rows = pa.array(self.row_of[keep])
        return pa.Table.from_arrays(
            [
                pa.array(self.ids, pa.string()).take(rows),
                pa.array(self.keys, KEY_TYPE).take(rows),
                pa.array(self.numbers[keep], pa.int32()),
                pa.array(self.n_tokens[keep], pa.int32()),
                pa.array(self.starts[keep], pa.int32()),
                pa.array(self.ends[keep], pa.int32()),
                embedding_column(self._vectors(keep), schema.field("embedding")),
            ],
            schema=schema,
        )

    def _vectors(self, keep: np.ndarray) -> np.ndarray:
        assert self.vectors is not None
        of_known = self.sequence_of < 0
        records = np.zeros(len(of_known), np.int64)
        records[of_known] = self.record_of
        found: np.ndarray = np.empty((len(keep), self.vectors.shape[1]), self.vectors.dtype)
        known = of_known[keep]
        if self.known is not None and known.any():
            found[known] = self.known.records(records[keep[known]])["vector"]
        found[~known] = self.vectors[self.sequence_of[keep[~known]]]
        return found


def open_checkpoint(
    index: int, rows: pa.Table, tokenizer: TextTokenizer | None, prompt: str, known: Known | None = None
) -> OpenCheckpoint:
    """Tokenises one checkpoint, but for what is known. Rows without text or tokens become rejects with a reason.

    Without a tokenizer, it raises NeedsEngine where a text is not known.
    """
    ids, keys, texts = (rows.column(name).to_pylist() for name in ("id", "text_key", "text"))
    rejects = {row: "blank text" for row, text in enumerate(texts) if not text.strip()}
    places = known.places(keys) if known else np.full(len(keys), -1)
    places[list(rejects)] = -1
    good = [row for row in np.flatnonzero(places < 0).tolist() if row not in rejects]
    if good and tokenizer is None:
        raise NeedsEngine(f"the text of row {ids[good[0]]!r} is in no earlier shard")
    columns: dict[str, list[int]] = {name: [] for name in WINDOW}
    distinct: dict[tuple[int, ...], int] = {}
    found = tokenizer.windows([texts[row] for row in good], prompt) if tokenizer else []
    for row, windows in zip(good, found, strict=True):
        if not windows:
            rejects[row] = "no tokens"
        for number, window in enumerate(windows):
            columns["row"].append(row)
            columns["number"].append(number)
            columns["tokens"].append(len(window.ids))
            columns["start"].append(window.start)
            columns["end"].append(window.end)
            columns["sequence"].append(distinct.setdefault(window.ids, len(distinct)))
    arrays = {name: np.asarray(values, dtype=np.int64) for name, values in columns.items()}
    taken = np.flatnonzero(places >= 0)
    record_of = np.array([], np.int64)
    if known and len(taken):
        begins, counts = known.windows(places[taken])
        rejects |= dict.fromkeys(taken[counts == 0].tolist(), "no tokens")
        taken, begins, counts = taken[counts > 0], begins[counts > 0], counts[counts > 0]
        arrays, record_of = _with_known(arrays, known, taken, begins, counts)
    return OpenCheckpoint(
        index=index,
        rows=rows.num_rows,
        row_of=arrays["row"],
        ids=ids,
        keys=keys,
        numbers=arrays["number"],
        n_tokens=arrays["tokens"],
        starts=arrays["start"],
        ends=arrays["end"],
        sequence_of=arrays["sequence"],
        sequences=list(distinct),
        rejects=rejects,
        known=known,
        record_of=record_of,
        places=places[taken],
        todo=list(range(len(distinct))),
    )


def _with_known(
    arrays: dict[str, np.ndarray], known: Known, rows: np.ndarray, begins: np.ndarray, counts: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The windows with those of known rows, in their order; and the records of these."""
    numbers = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    records = np.repeat(begins, counts) + numbers
    told = known.records(records)
    theirs = {
        "row": np.repeat(rows, counts), "number": numbers, "tokens": told["n_tokens"], "start": told["char_start"],
        "end": told["char_end"], "sequence": np.full(len(records), -1),
    }  # fmt: skip
    whole = {name: np.concatenate([arrays[name], theirs[name]]) for name in WINDOW}
    order = np.lexsort((whole["number"], whole["row"]))
    return {name: values[order] for name, values in whole.items()}, records
