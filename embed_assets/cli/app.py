"""The Typer app and its commands; what they do is elsewhere."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from embed_assets.cli import commands
from embed_assets.cli.common import friendly_errors

app = typer.Typer(
    name="embed-assets",
    help="Embeds millions of texts as Dagster partitions. Settings come from EMBED_* environment variables.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

Dataset = Annotated[str | None, typer.Option("--dataset", "-d", help="Dataset to look in.")]


@app.command(epilog="Example: `embed-assets demo`, then `make ui`.")
@friendly_errors
def demo() -> None:
    """Run the whole pipeline on 13,891 real film reviews: no cloud account, no GPU."""
    from embed_assets.demo.run import run_demo

    run_demo()


@app.command(
    epilog='Example: `embed-assets search "a heist that goes wrong" -d plots --where "rating >= 4"`. Without a query '
    "and without `--like` it asks for queries, the model loaded once."
)
@friendly_errors
def search(
    query: Annotated[str | None, typer.Argument(help="What to look for.")] = None,
    dataset: Annotated[
        list[str] | None, typer.Option("--dataset", "-d", help="Dataset to look in; repeatable.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="Number of rows.")] = 5,
    where: Annotated[str | None, typer.Option(help="Only rows for which this SQL holds: `rating >= 4`.")] = None,
    hybrid: Annotated[bool, typer.Option("--hybrid", help="Also by words; wants `index.full_text`.")] = False,
    like: Annotated[str | None, typer.Option(help="Rows near the row with this id, instead of a query.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    pipeline: Annotated[str | None, typer.Option(help="Pipeline, where there are several.")] = None,
) -> None:
    """Find the rows nearest in meaning; embeds the query with the same model and the query prompt."""
    from embed_assets.cli import search as searching

    options = searching.Options(limit, where, hybrid, as_json)
    searching.search(query, dataset or [], pipeline, like, options)


@app.command(epilog="Example: `embed-assets update` each night, or `embed-assets update --only failed` at 2 a.m.")
@friendly_errors
def update(
    dataset: Annotated[list[str] | None, typer.Option("--dataset", "-d", help="Only this one; repeatable.")] = None,
    only: Annotated[
        Literal["due", "missing", "failed"], typer.Option(help="Of the partitions of embedding_shards.")
    ] = "due",
    rebase: Annotated[
        Literal["auto", "never", "now"], typer.Option(help="When the latest snapshot becomes the base.")
    ] = "auto",
    confirm: Annotated[bool, typer.Option("--confirm", help="Take a snapshot that loses very many rows.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Embed anew even what is committed.")] = False,
    sample_rows: Annotated[int | None, typer.Option(min=1, help="Only the first so many rows.")] = None,
    budget_usd: Annotated[float | None, typer.Option(help="Dollars that all runs may spend together.")] = None,
    pipeline: Annotated[str | None, typer.Option(help="Only this pipeline.")] = None,
) -> None:
    """Take what is due through all assets: deltas of changed sources, missing shards, sets, indexes."""
    from embed_assets.cli import update as updating

    config = {"datasets": dataset or [], "only": only, "rebase": rebase, "confirm": confirm, "force": force}
    more = {"sample_rows": sample_rows, "budget_usd": budget_usd}
    updating.update(pipeline, config | {key: value for key, value in more.items() if value is not None})


@app.command(epilog="Example: `embed-assets export reviews --to reviews-vectors --dtype float16`")
@friendly_errors
def export(
    dataset: Annotated[str, typer.Argument(help="Dataset whose current set is written.")],
    to: Annotated[Path, typer.Option(help="Folder, empty or not there yet.")],
    dtype: Annotated[Literal["float32", "float16"] | None, typer.Option(help="Default: as stored.")] = None,
    passages: Annotated[bool, typer.Option(help="With the windows' passages.")] = True,
    pipeline: Annotated[str | None, typer.Option(help="Pipeline, where there are several.")] = None,
) -> None:
    """Write a dataset's vectors as plain Parquet, with a dataset card."""
    from embed_assets.cli import after

    after.export(dataset, to, dtype, passages, pipeline)


@app.command(epilog="Example: `embed-assets duplicates reviews --threshold 0.97 --to duplicates.parquet`")
@friendly_errors
def duplicates(
    dataset: Annotated[str, typer.Argument(help="Dataset with a vector_index.")],
    threshold: Annotated[float, typer.Option(min=0.0, max=1.0, help="Cosine from which two rows are near.")] = 0.97,
    to: Annotated[Path | None, typer.Option(help="Parquet file for the rows and their groups.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Rows that are shown.")] = 20,
    pipeline: Annotated[str | None, typer.Option(help="Pipeline, where there are several.")] = None,
) -> None:
    """Find rows with equal texts, and rows that nearly say the same."""
    from embed_assets.cli import after

    after.duplicates(dataset, threshold, to, limit, pipeline)


@app.command(epilog="Example: `embed-assets status --partitions`")
@friendly_errors
def status(
    partitions: Annotated[bool, typer.Option("--partitions", help="List every partition.")] = False,
    due: Annotated[bool, typer.Option("--due", help="List the sources too: what an update will find to do.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how far each dataset is, from the lake alone."""
    commands.status(partitions, as_json, due)


@app.command(epilog="Example: `embed-assets monitor --lake s3://bucket/lake`, then http://127.0.0.1:8000")
@friendly_errors
def monitor(
    lake: Annotated[str | None, typer.Option(help="Root of the lake, any fsspec URL; default: EMBED_LAKE.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; any but loopback asks for a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    interval: Annotated[float, typer.Option(min=1, help="Seconds between two looks at the lake.")] = 5.0,
) -> None:
    """Serve a live page, a JSON API and Prometheus metrics from the lake alone, which is only read."""
    from embed_assets.cli import monitor as monitoring

    monitoring.monitor(lake, host, port, interval)


@app.command(epilog="Example: `embed-assets stage-model --pipeline amazon_books`")
@friendly_errors
def stage_model(
    pipeline: Annotated[str | None, typer.Option(help="Pipeline, where there are several.")] = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="Folder with the model, instead of the hub.", exists=True)
    ] = None,
) -> None:
    """Put the pipeline's model into the lake's bucket, in its dtype and without what embedding does not use."""
    from embed_assets.cli import model

    model.stage(pipeline, source)


@app.command(epilog="Example: `embed-assets spec-for Qwen/Qwen3-Embedding-0.6B`")
@friendly_errors
def spec_for(
    model: Annotated[str, typer.Argument(help="The model's public name.")],
    source: Annotated[
        Path | None, typer.Option("--from", help="Folder with the model, instead of the hub.", exists=True)
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub; default: the newest.")] = None,
) -> None:
    """Print the `embedding:` block that a model's own files ask for, its revision and weights pinned."""
    from embed_assets.cli import model as of_model

    of_model.spec_for(model, source, revision)


@app.command(epilog="Example: `embed-assets plan --rows 29500000 --tokens-per-row 100 --accelerators L4,H100`")
@friendly_errors
def plan(
    pipeline: Annotated[str | None, typer.Option(help="Only this pipeline.")] = None,
    dataset: Dataset = None,
    accelerators: Annotated[str | None, typer.Option(help="Instead of the deployment's: `L4, H100:2`, `cpu`.")] = None,
    tokens_per_second: Annotated[
        list[str] | None, typer.Option(help="Measured speed of one machine, such as `L4=2000`; repeatable.")
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Rows of a dataset that is not ingested.")] = None,
    tokens_per_row: Annotated[float | None, typer.Option(help="Stated instead of sampled.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="A tokenizer.json on this machine.")] = None,
    prices: Annotated[bool, typer.Option(help="Ask SkyPilot's catalog, where it is installed.")] = True,
    sample: Annotated[int, typer.Option(min=1, max=1_000_000, help="Rows that are tokenised.")] = 4096,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a run will take before it is launched: tokens, hours, dollars, wall time, strides, and how sure."""
    from embed_assets.cli import plan as planning

    planning.plan(
        pipeline, dataset, accelerators, tokens_per_second or [], prices, sample, as_json,
        rows=rows, tokens_per_row=tokens_per_row, tokenizer=tokenizer,
    )  # fmt: skip


@app.command(epilog="Example: `embed-assets verify` or `embed-assets verify s3://bucket/lake`")
@friendly_errors
def verify(
    lake: Annotated[str | None, typer.Argument(help="Root of the lake; default: EMBED_LAKE.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Re-check a lake from its files alone. Exit code 1 on any damage, naming it."""
    commands.verify(lake, as_json)


@app.command(epilog="Example: `embed-assets gc` shows, `embed-assets gc --yes` removes.")
@friendly_errors
def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Remove what is shown.")] = False,
) -> None:
    """Remove what no latest snapshot and no running job needs; shows it first."""
    commands.gc(yes)


pool_app = typer.Typer(
    help="A warm pool of machines for EMBED_COMPUTE=skypilot; its name is EMBED_SKY_POOL, or `embed`.",
    no_args_is_help=True,
)
app.add_typer(pool_app, name="pool")


@pool_app.command("up", epilog="Example: `embed-assets pool up --workers 8`. It bills until `embed-assets pool down`.")
@friendly_errors
def pool_up(
    workers: Annotated[
        int | None, typer.Option("--workers", "-n", min=1, help="Machines; default: the file's.")
    ] = None,
    file: Annotated[str | None, typer.Option(help="Pool file; default: the shipped sky/pool.yaml.")] = None,
) -> None:
    """Start the pool, or change it to this many machines."""
    from embed_assets.cli import pool

    pool.up(workers, file)


@pool_app.command("status", epilog="Example: `embed-assets pool status`")
@friendly_errors
def pool_status() -> None:
    """Show the pool's machines and the jobs on them."""
    from embed_assets.cli import pool

    pool.status()


@pool_app.command("down", epilog="Example: `embed-assets pool down`")
@friendly_errors
def pool_down() -> None:
    """End the pool and its machines."""
    from embed_assets.cli import pool

    pool.down()
