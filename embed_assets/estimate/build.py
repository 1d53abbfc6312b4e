"""Puts a plan together: samples, counts, asks for prices, and says what each figure rests on."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from embed_assets.estimate import speed
from embed_assets.estimate.estimate import Offer, Starts, Work, load_seconds, offer, work
from embed_assets.estimate.figures import Figure, How
from embed_assets.estimate.indexing import IndexPlan, plan_index
from embed_assets.estimate.model import Model, describe
from embed_assets.estimate.sample import sample_snapshot, sample_source
from embed_assets.estimate.tokens import Counts, count, find_tokenizer, guess, stated
from embed_assets.spec import DatasetSpec, EmbeddingPipeline
from embed_worker.lake import layout
from embed_worker.lake.errors import BadManifest
from embed_worker.lake.layout import ShardId
from embed_worker.lake.manifests import ShardManifest
from embed_worker.lake.snapshots import RawManifest
from resources.lake import Lake
from resources.skypilot.prices import Quote, catalog_quotes, wanted
from resources.skypilot.settings import SkyPilotFields

SAMPLE_ROWS = 4096
MEASURED_SHARDS = 20
"""Committed shards whose speed is read; the first ones found."""

Quotes = Callable[[Sequence[str]], Mapping[str, Quote]]
"""Prices by accelerator."""


@dataclass(frozen=True)
class Plan:
    """What one dataset will take."""

    pipeline: str
    dataset: str
    strides: int
    checkpoint_rows: int
    counts: Counts
    model: Model
    todo: Work
    starts: Starts
    offers: list[Offer]
    index: IndexPlan | None
    """Of vector_index; None where the dimension is not known."""
    notes: list[str] = field(default_factory=list)
    """How sure it is: what was measured, what is only assumed."""

    @property
    def best(self) -> Offer | None:
        """The cheapest offer that has a price, else the first that has a speed."""
        priced = [one for one in self.offers if usd(one) is not None]
        if priced:
            return min(priced, key=lambda one: value_of(usd(one)))
        return next((one for one in self.offers if one.hours is not None), None)


def usd(one: Offer) -> Figure | None:
    """What an offer costs: as spot where that has a price, else on demand."""
    return one.spot_usd or one.on_demand_usd


def value_of(figure: Figure | None) -> float:
    return float("inf") if figure is None else figure.value


def quotes_for(pipeline: EmbeddingPipeline, settings: SkyPilotFields, catalog: bool = True) -> Quotes:
    """The pipeline's own prices, and SkyPilot's catalog for the rest."""

    def ask(accelerators: Sequence[str]) -> dict[str, Quote]:
        own = {
            name: Quote(price.spot, price.on_demand, "plan.usd_per_hour", "plan.usd_per_hour")
            for name, price in pipeline.plan.usd_per_hour.items()
        }
        rest = [name for name in accelerators if name not in own and name != speed.CPU]
        found = catalog_quotes(rest, settings.priced_at) if rest and catalog else {}
        none = Quote(None, None, reason="" if catalog else "prices were not asked for")
        free = Quote(None, None, reason="a machine without GPU has no price here")
        return {
            name: own.get(name) or found.get(name) or (free if name == speed.CPU else none) for name in accelerators
        }

    return ask


def accelerators_of(pipeline: EmbeddingPipeline, settings: SkyPilotFields, compute: str) -> list[str]:
    """What the deployment's jobs may run on, and what the pipeline states figures for.

    Raises BackendBroken where the deployment's task file cannot be read.
    """
    names = [one.accelerator for one in wanted(settings)]
    own = [*pipeline.plan.tokens_per_second, *pipeline.plan.usd_per_hour]
    local = [speed.CPU] if compute == "local" else []
    return list(dict.fromkeys([*local, *own, *names]))


def make_plan(
    lake: Lake,
    pipeline: EmbeddingPipeline,
    dataset: DatasetSpec,
    accelerators: Iterable[str],
    quotes: Quotes,
    *,
    sample_rows: int = SAMPLE_ROWS,
    local: bool = False,
    measured_shards: int = MEASURED_SHARDS,
) -> Plan:
    """`local`: jobs run on this machine, whose workers load the model once for all their jobs.

    Raises SourceError where the source must be read and cannot be, ValueError where it has no text."""
    given = pipeline.plan
    raw = lake.base(dataset.name, dataset.ingest_id)
    rows, counts, notes = _counts(lake, pipeline, dataset, raw, sample_rows)
    model = describe(pipeline)
    shards = list(itertools.islice(_shards(lake, pipeline, dataset, raw), measured_shards))
    speeds = {name: Figure.exact(rate, How.STATED) for name, rate in given.tokens_per_second.items()}
    seen = speed.measured(shards)
    loads = [m.seconds["load_model"] for m in shards if m.seconds.get("load_model", 0.0) > 1.0]
    load = load_seconds(given.load_seconds, max(loads, default=None), model.weight_bytes)
    starts = Starts(given.start_seconds, load)
    value_bytes = 2 if pipeline.embedding.output_dtype == "float16" else 4
    todo = work(rows, counts, model.dimension, value_bytes)
    names = list(dict.fromkeys([*accelerators, *seen]))
    prices = quotes(names)
    offers = []
    for name in names:
        rate = speeds.get(name) or seen.get(name) or speed.assumed(name, model.parameters)
        here = Starts(0.0, load, once=True) if local and name == speed.CPU else starts
        offers.append(offer(name, todo, rate, prices[name], here, dataset.strides, pipeline.checkpoint_rows))
    index = None
    if model.dimension is not None:
        vectors = round(todo.windows.value)
        index = plan_index(vectors, model.dimension, value_bytes, wanted=pipeline.index.type)
        notes.append(_index_note(index, vectors))
    notes += _notes(counts, model, offers, todo, shards)
    return Plan(
        pipeline=pipeline.name,
        dataset=dataset.name,
        strides=dataset.strides,
        checkpoint_rows=pipeline.checkpoint_rows,
        counts=counts,
        model=model,
        todo=todo,
        starts=starts,
        offers=offers,
        index=index,
        notes=notes,
    )


def _counts(
    lake: Lake, pipeline: EmbeddingPipeline, dataset: DatasetSpec, raw: RawManifest | None, size: int
) -> tuple[Figure, Counts, list[str]]:
    given, spec = pipeline.plan, pipeline.embedding
    if given.tokens_per_row is not None and (raw is not None or given.rows is not None):
        rows = Figure.exact(raw.rows, How.MEASURED) if raw else Figure.exact(float(given.rows or 0), How.STATED)
        return rows, stated(given.tokens_per_row, spec), ["tokens per row are stated: nothing was sampled"]
    if raw is not None:
        sample = sample_snapshot(lake.store, raw, size)
        notes = []
    else:
        sample = sample_source(dataset, size, given.rows)
        notes = [] if sample.random else ["not ingested yet: the sample is the head of the source, not a random one"]
        if sample.rows.how is How.SAMPLED:
            notes.append("the number of rows is projected from the bytes of the head")
    if given.tokens_per_row is not None:
        return sample.rows, stated(given.tokens_per_row, spec), notes
    tokenizer, where = find_tokenizer(pipeline)
    if tokenizer is None:
        return sample.rows, guess(sample, spec), [*notes, where]
    return sample.rows, count(sample, tokenizer, spec, pipeline.checkpoint_rows), notes


def _shards(
    lake: Lake, pipeline: EmbeddingPipeline, dataset: DatasetSpec, raw: RawManifest | None
) -> Iterable[ShardManifest]:
    """The committed shards of this very spec and snapshot."""
    if raw is None:
        return
    cut = lake.cut(raw, dataset.cut)
    if cut is None:
        return
    spec_id = pipeline.embedding.spec_id
    there = lake.store.list(layout.shards_folder(dataset.name, spec_id, cut.partitioning))
    for stride in (int(name) for name in there if name.isdigit()):
        try:
            manifest = lake.shard(
                ShardId.of(dataset.name, spec_id, cut.partitioning, stride, cut.strides[stride].digest)
            )
        except BadManifest:
            continue
        if manifest is not None:
            yield manifest


def _index_note(index: IndexPlan, vectors: int) -> str:
    table = f"a table of {index.table_bytes / 1e9:,.2f} GB and the passages"
    if index.type == "none":
        return f"vector_index: no approximate index for {vectors:,} vectors, every one is looked at; {table}"
    return (
        f"vector_index: {index.type} for {vectors:,} vectors, about {index.seconds / 60:,.1f} min on this machine and "
        f"{index.bytes / 1e9:,.2f} GB beside {table}"
    )


def _notes(
    counts: Counts, model: Model, offers: Sequence[Offer], todo: Work, shards: Sequence[ShardManifest]
) -> list[str]:
    per_row = counts.tokens_per_row
    notes = [f"rows: {todo.rows.how}; tokens per row: {per_row.how} ({counts.how})"]
    if per_row.is_range and per_row.value:
        notes[0] += f", 95 % interval ± {(per_row.high - per_row.low) / 2 / per_row.value:.1%}"
    if counts.duplicates is not None:
        notes.append(f"duplicates: {counts.duplicates:.2%} of the sample's windows repeat within a checkpoint")
    guessed = [one.accelerator for one in offers if one.tokens_per_second and one.tokens_per_second.how is How.ASSUMED]
    if guessed:
        low, value, high = speed.SHARE_OF_PEAK
        notes.append(
            f"speed of {', '.join(guessed)}: assumed, {value:.0%} ({low:.0%} to {high:.0%}) of peak FLOPs over "
            f"2 × parameters ({model.how}). One committed partition replaces it by a measured one"
        )
    if shards:
        notes.append(f"measured speeds: of {len(shards)} committed shards of this dataset and spec")
    unknown = {one.reason for one in offers if one.reason and (one.spot_usd is None or one.on_demand_usd is None)}
    notes += [f"unknown: {reason}" for reason in sorted(unknown)]
    notes.append("prices: the cheapest listed machine; no storage, egress, controller, preemption or waiting in them")
    return notes
