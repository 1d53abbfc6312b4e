"""The Typer app and its commands; what they do is elsewhere."""

from pathlib import Path
from typing import Annotated

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


@app.command(epilog='Example: `embed-assets search "a heist that goes wrong" --dataset plot_summaries --limit 3`')
@friendly_errors
def search(
    query: Annotated[str, typer.Argument(help="What to look for.")],
    dataset: Dataset = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="Number of results.")] = 5,
    pipeline: Annotated[str | None, typer.Option(help="Pipeline, where there are several.")] = None,
) -> None:
    """Find the rows nearest in meaning; embeds the query with the same model and the query prompt."""
    commands.search(query, dataset, limit, pipeline)


@app.command(epilog="Example: `embed-assets status --partitions`")
@friendly_errors
def status(
    partitions: Annotated[bool, typer.Option("--partitions", help="List every partition.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how far each dataset is, from the lake alone."""
    commands.status(partitions, as_json)


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
    from embed_assets.cli import stage

    stage.stage(pipeline, source)


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
