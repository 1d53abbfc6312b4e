"""What is measured, a process each: `python -m bench.ingest.contestants NAME ARGUMENTS` prints its figures."""

import json
import sys
import time
from pathlib import Path
from typing import Any


def ingest(source: str, lake: str) -> dict[str, Any]:
    """Ours: files → snapshot."""
    from embed_worker.lake.store import Store
    from embed_worker.steps import raw

    store, spec = Store(lake), _spec(source)
    begun = time.perf_counter()
    manifest = raw.ingest(store, spec).manifest
    return {"seconds": time.perf_counter() - begun, "rows": manifest.rows}


def cut(source: str, lake: str, strides: str) -> dict[str, Any]:
    """Ours: snapshot → slices."""
    from embed_worker.lake.layout import Partitioning
    from embed_worker.lake.store import Store
    from embed_worker.steps import raw
    from embed_worker.steps.cut import write_strides

    store = Store(lake)
    manifest = raw.ingest(store, _spec(source)).manifest  # which is there
    begun = time.perf_counter()
    made = write_strides(store, manifest, Partitioning("content", int(strides)))
    return {"seconds": time.perf_counter() - begun, "rows": made.manifest.rows}


def again(source: str, lake: str) -> dict[str, Any]:
    """Ours: a snapshot of what has changed since; how many bytes of the source it reads."""
    from bench.source_bytes import counted_bytes
    from embed_worker.lake.store import Store
    from embed_worker.steps import raw

    with counted_bytes() as read:
        manifest = raw.ingest(Store(lake), _spec(source)).manifest
    return {"rows": manifest.rows, "bytes": read["bytes"]}


def polars_ingest(source: str, target: str) -> dict[str, Any]:
    """Polars: files → one file of Parquet with id, text and the other columns."""
    import polars as pl

    scan = {"csv": pl.scan_csv, "parquet": pl.scan_parquet}.get(source.rpartition(".")[2], pl.scan_ndjson)
    begun = time.perf_counter()
    rows = scan(source).with_columns(
        id=pl.format("{}-{}-{}", "user_id", "asin", "timestamp"),
        text=pl.format("{}\n{}", "title", "text"),
        source_text="text",
    )
    rows.sink_parquet(target, compression="zstd", compression_level=1)
    took = time.perf_counter() - begun
    return {"seconds": took, "rows": pl.scan_parquet(target).select(pl.len()).collect().item()}


def polars_cut(source: str, target: str, strides: str) -> dict[str, Any]:
    """Polars: that file → a file of Parquet for each stride, by the text's hash."""
    import polars as pl

    begun = time.perf_counter()
    rows = pl.scan_parquet(source).select("id", "text", stride=pl.col("text").hash() % int(strides))
    rows.sink_parquet(
        pl.PartitionBy(target, key="stride", include_key=False), mkdir=True, compression="zstd", compression_level=1
    )
    took = time.perf_counter() - begun
    return {"seconds": took, "rows": pl.scan_parquet(f"{target}/**/*.parquet").select(pl.len()).collect().item()}


def _spec(source: str) -> Any:
    from embed_worker.steps.spec import SourceSpec

    return SourceSpec(name="reviews", source=source, text="{title}\\n{text}", id="{user_id}-{asin}-{timestamp}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2] / "sky"))
    found = {one.__name__: one for one in (ingest, cut, again, polars_ingest, polars_cut)}
    print(json.dumps(found[sys.argv[1]](*sys.argv[2:])))
