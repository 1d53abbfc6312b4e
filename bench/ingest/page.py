"""The page's words for the figures."""

import statistics
from typing import Any


def section(result: dict[str, Any]) -> str:
    box = result["machine"]
    lines = [
        "## The front door",
        "",
        "Reviews with the fields of Amazon's, 20 files a format, by turns with Polars alone in "
        f"{result['rounds']} rounds, each in a new process on all {box['cores']} cores; medians, of the seconds and of "
        "the ratios within a round.",
        "",
        "| | rows | MB | ingest | Polars | ratio | cut | Polars | ratio | both |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for kind, one in result["formats"].items():
        took = {name: f"{statistics.median(seconds):.1f} s" for name, seconds in one["seconds"].items()}
        lines.append(
            f"| {kind} | {one['rows']:,} | {one['bytes'] / 1e6:,.0f} "
            f"| {took['ingest']} | {took['polars_ingest']} | {one['ingest_over_polars']:.2f} "
            f"| {took['cut']} | {took['polars_cut']} | {one['cut_over_polars']:.2f} "
            f"| **{one['both_over_polars']:.2f}** |"
        )
    lines += [
        "",
        "Polars: `scan` → id and text from columns → `sink_parquet` (zstd 1) with all columns; then `sink_parquet` by "
        f"`PartitionBy` a hash of the text, {result['strides']} strides. Ours does the same and also gives each row "
        "its text's key and a digest, finds ids that are there twice, and orders each stride.",
        "",
        "| | |",
        "|---|---:|",
        f"| peak memory, all processes, {result['peak_rows']:,} rows, 500 strides | {result['peak_mb_500']:,.0f} MB |",
        f"| the same, 5,000 strides | {result['peak_mb_5000']:,.0f} MB |",
        "| of the source's bytes, read for the next snapshot where one of 20 files has changed "
        f"| {result['bytes_read_second_snapshot_share']:.1%} |",
        "",
        f"`make bench-ingest` · {result['date']} · {box['cpu']}, {box['cores']} cores · "
        "[ingest.json](../bench/results/ingest.json)",
    ]
    return "\n".join(lines)
