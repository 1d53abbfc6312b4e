"""`python -m bench.ingest [--megabytes N] [--rounds N] [--formats …] [--peak-megabytes N]` writes
bench/results/ingest.json, and its section of the page."""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.control_plane import machine as machine_facts
from bench.ingest import data
from bench.ingest.page import section
from bench.memory import peak_of_tree
from bench.report import write_section
from embed_worker.steps.source import SETTLED_SECONDS

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench" / "results" / "ingest.json"
STRIDES = 500
PEAKS = (500, 5000)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=500, help="of each format, as JSON Lines")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--formats", nargs="+", choices=data.FORMATS, default=list(data.FORMATS))
    parser.add_argument("--peak-megabytes", type=int, default=1000)
    parser.add_argument("--folder", type=Path, help="of the files, instead of a temporary one")
    parser.add_argument("--dry", action="store_true", help="write nothing")
    asked = parser.parse_args()
    result: dict[str, Any] = {"rounds": asked.rounds, "strides": STRIDES, "formats": {}}
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        folder = Path(name)
        for kind in asked.formats:
            result["formats"][kind] = measured(folder, data.FORMATS[kind], asked.megabytes, asked.rounds)
            print(kind, json.dumps(result["formats"][kind]), flush=True)
        result |= peaks(folder, asked.peak_megabytes)
        print(json.dumps({name: value for name, value in result.items() if name != "formats"}), flush=True)
    result["rows"] = max(one["rows"] for one in result["formats"].values())
    for ratio in ("ingest_over_polars", "cut_over_polars", "both_over_polars"):
        result[ratio] = {kind: one[ratio] for kind, one in result["formats"].items()}
    result["machine"], result["date"] = machine_facts(), datetime.now(UTC).date().isoformat()
    print(section(result))
    if not asked.dry:
        RESULTS.write_text(json.dumps(result, indent=2) + "\n")
        write_section("ingest", section(result))


def measured(folder: Path, suffix: str, megabytes: int, rounds: int) -> dict[str, Any]:
    """By turns, each in a new process; the order is reversed every other round."""
    files = folder / "source"
    rows, size = data.write(files, suffix, megabytes)
    source = f"{files}/*.{suffix}"
    lake, ours = str(folder / "lake"), ("ingest", "cut")
    whole, strides = str(folder / "whole.parquet"), str(folder / "strides")
    arguments = {
        "polars_ingest": (source, whole),
        "polars_cut": (whole, strides, str(STRIDES)),
        "ingest": (source, lake),
        "cut": (source, lake, str(STRIDES)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in arguments}
    for at in range(rounds + 1):
        turns = (("polars_ingest", "polars_cut"), ours)
        for name in [name for turn in (turns if at % 2 else turns[::-1]) for name in turn]:
            found = run(name, *arguments[name])
            if found["rows"] != rows:
                raise SystemExit(f"{name} gave {found['rows']:,} of {rows:,} rows of {source}")
            if at:  # the first round warms up
                seconds[name].append(round(found["seconds"], 3))
        for made in (lake, strides):
            shutil.rmtree(made)
        Path(whole).unlink()
    shutil.rmtree(files)
    rounds_of = [dict(zip(seconds, turn, strict=True)) for turn in zip(*seconds.values(), strict=True)]
    return {
        "rows": rows,
        "bytes": size,
        "seconds": seconds,
        "ingest_over_polars": ratio([one["polars_ingest"] / one["ingest"] for one in rounds_of]),
        "cut_over_polars": ratio([one["polars_cut"] / one["cut"] for one in rounds_of]),
        "both_over_polars": ratio(
            [(one["polars_ingest"] + one["polars_cut"]) / (one["ingest"] + one["cut"]) for one in rounds_of]
        ),
    }


def ratio(found: list[float]) -> float:
    return round(statistics.median(found), 3)


def peaks(folder: Path, megabytes: int) -> dict[str, Any]:
    """Memory of ingest and cut, and what a second snapshot reads where one of the files has changed."""
    files, lake = folder / "source", str(folder / "lake")
    rows, size = data.write(files, "jsonl", megabytes)
    source = f"{files}/*.jsonl"
    found: dict[str, Any] = {"peak_rows": rows, "peak_mb_ingest": peak("ingest", source, lake)}
    for strides in PEAKS:
        found[f"peak_mb_{strides}"] = max(found["peak_mb_ingest"], peak("cut", source, lake, str(strides)))
    time.sleep(2 * SETTLED_SECONDS)  # before that, no time of a file proves that it is the same
    run("ingest", source, lake)
    changed = sorted(files.iterdir())[7]
    lines = changed.read_bytes().replace(b"great", b"grand", 1)
    changed.write_bytes(lines)
    found["bytes_read_second_snapshot_share"] = round(run("again", source, lake)["bytes"] / size, 4)
    shutil.rmtree(files)
    shutil.rmtree(lake)
    return found


def peak(*arguments: str) -> float:
    """In MB, of all processes together."""
    process = subprocess.Popen(command(*arguments), stdout=subprocess.DEVNULL, cwd=ROOT)
    found = peak_of_tree(process)
    if process.returncode:
        raise SystemExit(f"{arguments[0]} failed")
    return found


def run(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(command(*arguments), check=True, stdout=subprocess.PIPE, cwd=ROOT)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "bench.ingest.contestants", *arguments]


if __name__ == "__main__":
    main()
