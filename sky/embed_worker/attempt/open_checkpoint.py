"""From the rows of a checkpoint to what the engine is given, and from its vectors to a table."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from embed_worker.attempt.checkpoints import Reject
from embed_worker.attempt.vector_cache import VectorCache
from embed_worker.engine.tokens import TextTokenizer
from embed_worker.lake.identity import KEY_TYPE
from embed_worker.lake.table import embedding_column


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
    sequences: list[tuple[int, ...]]
    """Distinct token sequences; identical ones are embedded once."""
    rejects: dict[int, str]
    """Rows that give no window, and why."""
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

    def recall(self, cache: VectorCache) -> int:
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
                embedding_column(self.vectors[self.sequence_of[keep]], schema.field("embedding")),
            ],
            schema=schema,
        )


def open_checkpoint(index: int, rows: pa.Table, tokenizer: TextTokenizer, prompt: str) -> OpenCheckpoint:
    """Tokenises one checkpoint. Rows without text or tokens become rejects with a reason."""
    ids, keys, texts = (rows.column(name).to_pylist() for name in ("id", "text_key", "text"))
    rejects = {row: "blank text" for row, text in enumerate(texts) if not text.strip()}
    good = [row for row in range(len(texts)) if row not in rejects]
    columns: dict[str, list[int]] = {name: [] for name in ("row", "number", "tokens", "start", "end", "sequence")}
    distinct: dict[tuple[int, ...], int] = {}
    for row, windows in zip(good, tokenizer.windows([texts[row] for row in good], prompt), strict=True):
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
        todo=list(range(len(distinct))),
    )
