"""From the rows of a checkpoint to what the engine is given, and from its vectors to a table."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embed_worker.attempt.checkpoints import Reject
from embed_worker.attempt.vector_cache import VectorCache
from embed_worker.engine.tokens import TextTokenizer
from embed_worker.errors import BadJob
from embed_worker.lake.table import embedding_column

COLUMNS = ["row_id", "id", "text"]


@dataclass
class OpenCheckpoint:
    """One checkpoint on its way through the engine. Arrays have one entry a window, in final order."""

    index: int
    rows: int
    row_ids: np.ndarray
    ids: list[str]
    numbers: np.ndarray
    """Of each window in its row's text, from 0."""
    n_tokens: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    sequence_of: np.ndarray
    sequences: list[tuple[int, ...]]
    """Distinct token sequences; identical ones are embedded once."""
    rejects: list[Reject]
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
        """Rejects of reading and of the engine, by row id. A row with one window without a vector is rejected whole."""
        rejected = {}
        for window, sequence in enumerate(self.sequence_of):
            if (reason := self.without_vector.get(int(sequence))) is not None:
                row = int(self.row_ids[window])
                rejected[row] = Reject(row_id=row, id=self.ids[window], reason=reason)
        return sorted([*self.rejects, *rejected.values()], key=lambda r: r.row_id)

    def kept(self) -> np.ndarray:
        """Positions of the windows whose rows are not rejected."""
        if not self.without_vector:
            return np.arange(len(self.row_ids))
        bad = self.row_ids[np.isin(self.sequence_of, list(self.without_vector))]
        return np.flatnonzero(~np.isin(self.row_ids, bad))

    def table(self, schema: pa.Schema) -> pa.Table | None:
        """The checkpoint's rows in the shard's schema, ordered by row_id and window; None without rows."""
        keep = self.kept()
        if not len(keep):
            return None
        assert self.vectors is not None
        ids = np.asarray(self.ids, dtype=object)[keep]
        return pa.Table.from_arrays(
            [
                pa.array(self.row_ids[keep], pa.int64()),
                pa.array(ids, pa.string()),
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
    row_ids, ids, texts = (rows.column(name).to_pylist() for name in COLUMNS)
    rejects, good = [], []
    for row_id, id_, text in zip(row_ids, ids, texts, strict=True):
        if text is None or not text.strip():
            rejects.append(Reject(row_id=row_id, id=id_, reason="null text" if text is None else "blank text"))
        else:
            good.append((row_id, id_, text))
    columns: dict[str, list[int]] = {name: [] for name in ("row", "number", "tokens", "start", "end", "sequence")}
    window_ids: list[str] = []
    distinct: dict[tuple[int, ...], int] = {}
    for (row_id, id_, _), windows in zip(good, tokenizer.windows([t for *_, t in good], prompt), strict=True):
        if not windows:
            rejects.append(Reject(row_id=row_id, id=id_, reason="no tokens"))
        for number, window in enumerate(windows):
            window_ids.append(id_)
            columns["row"].append(row_id)
            columns["number"].append(number)
            columns["tokens"].append(len(window.ids))
            columns["start"].append(window.start)
            columns["end"].append(window.end)
            columns["sequence"].append(distinct.setdefault(window.ids, len(distinct)))
    arrays = {name: np.asarray(values, dtype=np.int64) for name, values in columns.items()}
    return OpenCheckpoint(
        index=index,
        rows=rows.num_rows,
        row_ids=arrays["row"],
        ids=window_ids,
        numbers=arrays["number"],
        n_tokens=arrays["tokens"],
        starts=arrays["start"],
        ends=arrays["end"],
        sequence_of=arrays["sequence"],
        sequences=list(distinct),
        rejects=rejects,
        todo=list(range(len(distinct))),
    )


def check_input(paths: list[Path], expected_rows: int) -> None:
    """Proves from the Parquet footers that the input is what the job says, before any compute is spent."""
    total = 0
    for path in paths:
        try:
            file = pq.ParquetFile(path)
        except pa.ArrowException as error:
            raise BadJob(f"{path} is not a Parquet file: {error}; re-materialize stride_partitions") from error
        with file:
            if missing := [name for name in COLUMNS if name not in file.schema_arrow.names]:
                raise BadJob(f"{path} has no column {', '.join(missing)}; re-materialize stride_partitions")
            total += file.metadata.num_rows
    if total != expected_rows:
        raise BadJob(f"the input has {total} rows, the job says {expected_rows}; re-materialize stride_partitions")


def checkpoint_tables(paths: list[Path], size: int) -> Iterator[pa.Table]:
    """The rows of a stride in slices of exactly `size` (the last may be shorter), in file order."""
    pending: list[pa.RecordBatch] = []
    held = 0
    for path in paths:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=size, columns=COLUMNS):
            pending.append(batch)
            held += batch.num_rows
            while held >= size:
                table = pa.Table.from_batches(pending)
                yield table.slice(0, size)
                rest = table.slice(size)
                pending, held = rest.to_batches(), rest.num_rows
    if held:
        yield pa.Table.from_batches(pending)
