"""Reviews with the fields of Amazon's, always the same, as files of each format."""

import gzip
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

FILES = 20
FORMATS = {"csv": "csv", "parquet": "parquet", "gzip JSON Lines": "jsonl.gz", "JSON Lines": "jsonl"}
"""Each with the end of its files' names."""
POOL = 20_000
ROW_BYTES = 420
"""Of a review in JSON Lines, about."""
WORDS = (
    "the a and of to it is this was I not very good great bad book story read product works well, love bought time "
    'little really just quality price would recommend don\'t it’s naïve <br /> "quoted"'
)


def write(folder: Path, suffix: str, megabytes: int) -> tuple[int, int]:
    """The files of a format, together about so many MB; their rows, and their bytes."""
    per_file = max(1, megabytes * 1_000_000 // ROW_BYTES // FILES)
    folder.mkdir(parents=True, exist_ok=True)
    for at, table in enumerate(tables(per_file)):
        path = folder / f"reviews-{at:02d}.{suffix}"
        if suffix == "csv":
            table.write_csv(path)
        elif suffix == "parquet":
            table.write_parquet(path, compression="zstd", row_group_size=100_000)
        elif suffix == "jsonl":
            table.write_ndjson(path)
        else:
            with gzip.open(path, "wb", compresslevel=1) as sink:
                sink.write(table.write_ndjson().encode())
    return per_file * FILES, sum(path.stat().st_size for path in folder.iterdir())


def tables(rows: int) -> Iterator[pl.DataFrame]:
    """So many reviews a file."""
    made, numbers, words = random.Random(0), np.random.default_rng(0), WORDS.split()
    pool = pl.Series([" ".join(made.choices(words, k=int(made.lognormvariate(2.6, 0.9)) + 1)) for _ in range(POOL)])
    for file in range(FILES):
        row = np.arange(rows) + file * rows
        some = [pool.gather(numbers.integers(0, POOL, rows)) for _ in range(3)]
        yield pl.DataFrame(
            {
                "rating": numbers.integers(1, 6, rows).astype(float),
                "title": pool.str.head(40).gather(numbers.integers(0, POOL, rows)),
                "first": some[0],
                "second": some[1],
                "third": some[2],
                "row": row,
                "asin": numbers.integers(0, 10**6, rows),
                "user": numbers.integers(0, 10**12, rows),
                "helpful_vote": numbers.integers(0, 20, rows),
                "verified_purchase": numbers.random(rows) < 0.8,
            }
        ).select(
            "rating",
            "title",
            text=pl.format("{} {} {} {}", "first", "second", "third", "row"),
            asin=pl.format("B{}", "asin"),
            user_id=pl.format("A{}", "user"),
            timestamp=pl.col("row") + 1_588_687_728_923,
            helpful_vote="helpful_vote",
            verified_purchase="verified_purchase",
        )
