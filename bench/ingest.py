"""Blocks of reviews → Parquet, against Polars alone, by turns on one core.

`python -m bench.ingest [--rows N] [--rounds N]` writes bench/results/ingest.json, and its section of the page.
"""

import os

if __name__ == "__main__":
    os.environ["POLARS_MAX_THREADS"] = "1"  # blocks are read by a process a core

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from bench.control_plane import machine as machine_facts
from bench.report import write_section
from embed_worker.lake.store import Store
from embed_worker.steps.fast import jsonl
from embed_worker.steps.fast.block import BLOCK_BYTES
from embed_worker.steps.raw import ingest
from embed_worker.steps.spec import SourceSpec

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results" / "ingest.json"
CAREFUL_ROWS = 10_000
"""Of the file: the record reader is given so many."""
WORDS = (
    "the a and of to it is this was I not very good great bad book story read product works well love bought time "
    'little really just quality price would recommend don\'t it’s naïve <br /> "quoted"'
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    pa.set_cpu_count(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole, few = folder / "reviews.jsonl", folder / "few.jsonl"
        write_reviews(whole, asked.rows)
        write_reviews(few, CAREFUL_ROWS)
        result: dict[str, Any] = {
            "rows": asked.rows,
            "bytes": whole.stat().st_size,
            "rounds": asked.rounds,
            "speeds": rounds(whole, few, folder, asked.rounds),
            "machine": machine_facts(),
            "date": datetime.now(UTC).date().isoformat(),
        }
    result["ratios"] = {
        name: round(statistics.median(a / b for a, b in zip(speeds, result["speeds"]["polars"], strict=True)), 3)
        for name, speeds in result["speeds"].items()
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    write_section("ingest", section(result))
    print(section(result))


def rounds(whole: Path, few: Path, folder: Path, count: int) -> dict[str, list[float]]:
    """MB/s of each contestant, in turns."""
    contestants: dict[str, tuple[Path, Callable[[Path, Path], None]]] = {
        "polars": (whole, polars_alone),
        "parse": (whole, parse),
        "parse and write": (whole, parse_and_write),
        "record reader": (few, record_reader),
    }
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for at in range(count + 1):
        for name, (source, run) in contestants.items():
            target = folder / f"{name} {at}"
            begun = time.perf_counter()
            run(source, target)
            took = time.perf_counter() - begun
            if at:  # the first round warms up
                speeds[name].append(round(source.stat().st_size / took / 1e6, 1))
    return speeds


def polars_alone(source: Path, target: Path) -> None:
    pl.scan_ndjson(source).sink_parquet(target, compression="zstd")


def parse(source: Path, _: Path) -> None:
    for block in blocks(source):
        assert jsonl.read(block, spec(source)) is not None


def parse_and_write(source: Path, target: Path) -> None:
    writer = None
    for data in blocks(source):
        block = jsonl.read(data, spec(source))
        assert block is not None
        columns = [*block.own.columns, *block.columns.columns]
        table = pa.Table.from_arrays(columns, names=[*block.own.column_names, *block.columns.column_names])
        writer = writer or pq.ParquetWriter(target, table.schema, compression="zstd")
        writer.write_table(table)
    assert writer is not None
    writer.close()


def record_reader(source: Path, target: Path) -> None:
    ingest(Store(str(target)), spec(source))


def spec(source: Path) -> SourceSpec:
    return SourceSpec(name="reviews", source=str(source), text="{title}\\n{text}", id="{user_id}-{asin}-{timestamp}")


def blocks(source: Path) -> Iterator[bytes]:
    """Whole lines, about BLOCK_BYTES at a time."""
    with source.open("rb") as file:
        while data := file.read(BLOCK_BYTES):
            yield data + file.readline()


def write_reviews(path: Path, rows: int) -> None:
    """Reviews with the fields of Amazon's, always the same."""
    made, words = random.Random(0), WORDS.split()
    with path.open("w", encoding="utf-8") as file:
        for at in range(rows):
            image = {"small_image_url": f"https://images.example/{at}.jpg", "attachment_type": "IMAGE"}
            record = {
                "rating": float(made.randint(1, 5)),
                "title": " ".join(made.choices(words, k=4)),
                "text": " ".join(made.choices(words, k=int(made.lognormvariate(3.9, 0.9)) + 1)),
                "images": [image] if made.random() < 0.05 else [],
                "asin": f"B{made.randrange(10**6):09}",
                "parent_asin": f"B{made.randrange(10**6):09}",
                "user_id": f"A{made.randrange(10**12):027}",
                "timestamp": 1_588_687_728_923 + at,
                "helpful_vote": made.randint(0, 20),
                "verified_purchase": made.random() < 0.8,
            }
            file.write(json.dumps(record, ensure_ascii=bool(at % 2)) + "\n")


def section(result: dict[str, Any]) -> str:
    box = result["machine"]
    told = {
        "polars": "Polars alone: `scan_ndjson` → `sink_parquet`",
        "parse": "blocks → rows: ids, texts, keys of texts, typed columns, rejects",
        "parse and write": "the same, and Parquet",
        "record reader": f"the whole ingest record by record ({CAREFUL_ROWS:,} rows)",
    }
    return "\n".join(
        [
            "## The front door",
            "",
            f"{result['rows']:,} reviews with the fields of Amazon's, {result['bytes'] / 1e6:,.0f} MB of JSON Lines, "
            f"on one core, by turns in {result['rounds']} rounds; medians.",
            "",
            "| | MB/s | of Polars |",
            "|---|---:|---:|",
            *(
                f"| {told[name]} | {statistics.median(speeds):.0f} | {result['ratios'][name]:.2f} |"
                for name, speeds in result["speeds"].items()
            ),
            "",
            f"`make bench-ingest` · {result['date']} · {box['cpu']}, {box['cores']} cores · "
            "[ingest.json](../bench/results/ingest.json)",
        ]
    )


if __name__ == "__main__":
    main()
