"""`embed-assets export` and `embed-assets duplicates`."""

from pathlib import Path

import pyarrow.parquet as pq
from rich.table import Table

from embed_assets.cli.common import chosen
from embed_assets.index.duplicates import find_duplicates
from embed_assets.index.export import Dtype, export_dataset
from embed_assets.index.lance import lance_errors
from embed_assets.index.search import find_tables
from embed_assets.settings import deployment
from embed_assets.spec import EmbeddingPipeline
from embed_assets.tell.terminal import CommandError, console, shown


def export(dataset: str, to: Path, dtype: Dtype | None, passages: bool, pipeline: str | None) -> None:
    _, pipelines, lake = deployment()
    of = _pipeline_of(chosen(pipelines, pipeline), dataset)
    with console.status(shown(f"writing {to} …")):
        made = export_dataset(lake, of, dataset, to, dtype=dtype, passages=passages)
    size = sum(path.stat().st_size for path in made.files) / 1e6
    files = f"{len(made.files)} Parquet file{'' if len(made.files) == 1 else 's'}"
    console.print(shown(f"{made.rows:,} vectors in {files}, {size:,.1f} MB, and a dataset card: {made.folder}"))


def duplicates(dataset: str, threshold: float, to: Path | None, limit: int, pipeline: str | None) -> None:
    _, pipelines, lake = deployment()
    with lance_errors(lake, dataset), console.status("comparing …"):
        [table] = find_tables(lake, chosen(pipelines, pipeline), [dataset])
        found = find_duplicates(table, threshold)
    shown_rows = Table(title=shown(f"rows of {dataset} that say the same"), title_justify="left")
    for name in ("kind", "cosine", "id", "like"):
        shown_rows.add_column(name, justify="right" if name == "cosine" else "left")
    others = [row for row in found.table.to_pylist() if row["id"] != row["like"]]
    for row in others[:limit]:
        shown_rows.add_row(row["kind"], f"{row['cosine']:.4f}", shown(row["id"]), shown(row["like"]))
    if others:
        console.print(shown_rows)
    console.print(
        f"{found.rows:,} rows: {found.exact_rows:,} with equal texts in {found.exact_groups:,} groups, "
        f"{found.near_rows:,} nearly alike (cosine from {threshold:g}) in {found.near_groups:,} groups"
    )
    if to is not None:
        pq.write_table(found.table, to)
        console.print(shown(f"all of them: {to}"))


def _pipeline_of(pipelines: list[EmbeddingPipeline], dataset: str) -> EmbeddingPipeline:
    names = [d.name for p in pipelines for d in p.datasets]
    for pipeline in pipelines:
        if dataset in [d.name for d in pipeline.datasets]:
            return pipeline
    raise CommandError(f"no dataset {dataset!r}; there are {', '.join(names)}")
