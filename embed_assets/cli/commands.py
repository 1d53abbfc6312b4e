"""What the commands print."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from embed_assets.estimate.costs import read_costs, total_of
from embed_assets.monitor.states import State
from embed_assets.settings import deployment
from embed_assets.tell.terminal import CommandError, console, shown
from embed_assets.upkeep.due import Due, due_of
from embed_assets.upkeep.gc import find_garbage, remove
from embed_assets.upkeep.status import DatasetStatus, pipeline_status
from embed_assets.upkeep.verify import verify_lake
from embed_worker.lake.damage import Damage
from embed_worker.lake.store import Store

STYLES = {
    State.COMMITTED: "green",
    State.RUNNING: "cyan",
    State.RECOVERING: "yellow",
    State.STALE: "yellow",
    State.FAILED: "red",
    State.WAITING: "dim",
    State.DAMAGED: "bold red",
}


def status(partitions: bool, as_json: bool, due: bool) -> None:
    """Exit code 1 where a manifest is damaged."""
    _, pipelines, lake = deployment()
    found = [one for pipeline in pipelines for one in pipeline_status(lake.store, pipeline)]
    damages = sorted({damage for one in found for damage in one.damages})
    costs = {pipeline.name: read_costs(lake.store, pipeline.name) for pipeline in pipelines}
    by_name = {pipeline.name: pipeline for pipeline in pipelines}
    dues = [due_of(lake, by_name[one.pipeline], one, costs[one.pipeline]) if due else None for one in found]
    if as_json:
        console.print_data([
            dataclasses.asdict(one) | ({"due": dataclasses.asdict(its)} if its else {})
            for one, its in zip(found, dues, strict=True)
        ])  # fmt: skip
    else:
        console.print(shown(f"lake {lake.root}"), soft_wrap=True)
        for one, its in zip(found, dues, strict=True):
            for line in [*_told(one), *(_told_due(its) if its else [])]:
                console.print(line, soft_wrap=True)
        for name, paid in costs.items():
            if paid:
                console.print(shown(f"cost of {name}: {total_of(paid).text()}"))
        if partitions:
            _print_partitions(found)
        _print_damages(damages)
    if damages:
        raise typer.Exit(1)


def _told(one: DatasetStatus) -> Iterator[Text]:
    """A dataset in lines that may be wrapped or piped: a table of all these figures is wider than a terminal."""
    cut = "" if one.strides_written else ", not cut into strides"
    made = f"snapshot {one.snapshot}, {one.rows:,} rows{cut}" if one.snapshot else "not ingested"
    if one.snapshot is None and one.damages:
        made = "which snapshot counts is not known"
    yield Text.assemble((f"{one.pipeline}/{one.dataset}", "bold"), f"  {made}")
    counts = [(f"{one.counts[state]:,} {state}", STYLES[state]) for state in State if one.counts[state]]
    if counts:
        yield Text.assemble(
            f"  {len(one.partitions):,} partitions: ", Text(", ").join(Text(*count) for count in counts)
        )
    if one.snapshot is None:
        return
    if one.latest is not None:
        yield Text(
            f"  the delta adds {one.rows_added:,} rows and removes {one.rows_removed:,}, to snapshot {one.latest}"
        )
    yield Text(
        f"  {one.rows_with_vector:,} rows embedded, {one.rows_rejected + one.rejects:,} rejected, "
        f"{one.vectors:,} vectors, {one.tokens:,} tokens"
    )


def _told_due(one: Due) -> Iterator[Text]:
    source = one.source
    if source.fault:
        yield shown(f"  source: {source.fault}", "red")
    else:
        gone = f"; {source.gone:,} that were read are gone" if source.gone else ""
        read = f"{source.to_read:,} of {source.files:,} files to read, {source.bytes_to_read / 1e6:,.1f} MB"
        yield Text(f"  source: {read if source.to_read else f'{source.files:,} files, read as they are'}{gone}")
    if not one.due:
        yield Text(f"  due: none of {one.partitions:,} partitions")
        return
    rows = "rows not counted yet" if one.rows is None else f"at most {one.rows:,} rows"
    tokens = "" if one.tokens is None else f", {one.tokens:,} tokens"
    usd = "" if one.usd is None else f", ${one.usd:,.2f} (a row as measured over committed jobs: {one.jobs_measured:,})"
    yield Text(f"  due: {one.due:,} of {one.partitions:,} partitions, {rows}{tokens}{usd}")


def _print_partitions(found: list[DatasetStatus]) -> None:
    for one in found:
        for key, state in one.partitions.items():
            reason = shown("  " + " ".join(one.reasons.get(key, "").split()), "dim")
            console.print(Text.assemble((f"{state:<10} ", STYLES[state]), key, reason), soft_wrap=True)


def _print_damages(damages: Iterable[Damage]) -> None:
    for damage in damages:
        console.print(Text("damaged", "red"), shown(f"{damage.where}: {damage.what}"), soft_wrap=True)


def verify(root: str | None, as_json: bool) -> None:
    store = Store(root) if root is not None else deployment()[2].store
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=as_json) as progress:
        task = progress.add_task("listing")
        report = verify_lake(store, lambda place: progress.update(task, description=place))
    if not (report.snapshots or report.shards or report.damages):
        raise CommandError(f"nothing is committed in {store.root}; is this the lake you meant?")
    if as_json:
        console.print_data(dataclasses.asdict(report))
    else:
        _print_damages(report.damages)
        console.print(
            f"{report.snapshots} snapshots, {report.partitionings} partitionings, {report.shards} shards "
            f"({report.unfinished} unfinished), {report.rows:,} rows, {report.vectors:,} vectors, "
            f"{report.bytes / 1e6:,.1f} MB read: ",
            Text(f"{len(report.damages)} damages", "red") if report.damages else Text("all sound", "green"),
        )
    if report.damages:
        raise typer.Exit(1)


def gc(yes: bool) -> None:
    _, pipelines, lake = deployment()
    store, keep = lake.store, Counter[str]()
    for dataset in (dataset for pipeline in pipelines for dataset in pipeline.datasets):
        keep[dataset.name] = max(keep[dataset.name], dataset.keep_sets)
    garbage = find_garbage(store, keep)
    for item in garbage:
        line = shown(f"{item.bytes / 1e6:>10,.1f} MB  {item.path} ")
        console.print(Text.assemble(line, (f"({item.why})", "dim")), soft_wrap=True)
    if yes:
        remove(store, garbage)
    total = sum(item.bytes for item in garbage) / 1e6
    if not garbage:
        console.print(shown(f"nothing to remove in {store.root}"), soft_wrap=True)
    elif yes:
        console.print(f"removed {len(garbage)} places, {total:,.1f} MB")
    else:
        console.print(f"{len(garbage)} places, {total:,.1f} MB; nothing removed yet: `embed-assets gc --yes` does")
