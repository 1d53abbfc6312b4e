"""`embed-assets search`: one query, or a prompt; like a row; of one dataset or several."""

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embed_assets.cli.common import chosen
from embed_assets.deployment import compute_resource
from embed_assets.index import search as searching
from embed_assets.index.hits import as_json, print_hits
from embed_assets.index.lance import lance_errors
from embed_assets.index.search import Hit, Searchable, SearchTable
from embed_assets.settings import Settings, deployment
from embed_assets.tell.terminal import CommandError, console, errors, shown
from embed_worker.lake import layout
from embed_worker.lake.errors import LakeError
from embed_worker.lake.manifests import Space, read_manifest
from embed_worker.lake.spec import EmbeddingSpec
from resources.lake import Lake

if TYPE_CHECKING:
    from resources.dagster import EmbedQueries

PROMPT = "search: "


@dataclass(frozen=True)
class Options:
    """Of all queries of a command."""

    limit: int = 5
    where: str | None = None
    hybrid: bool = False
    as_json: bool = False


def search(
    query: str | None, datasets: Sequence[str], pipeline: str | None, like: str | None, options: Options
) -> None:
    settings, pipelines, lake = deployment()
    pipelines = chosen(pipelines, pipeline)
    if query is not None and like is not None:
        raise CommandError("a query and --like: give one of them")
    if query is not None:
        check_query(query)
    found = searching.find_records(lake, pipelines, datasets)
    if like is not None:
        _like(_tables(lake, found), like, options)
        return
    spec = _spec(found)
    with _loaded(settings, lake, spec) as embed:
        pool = ThreadPoolExecutor(1)
        first = pool.submit(embed, [query or "warm up"])  # while LanceDB is imported, and its tables opened
        pool.shutdown(wait=False)
        tables = _tables(lake, found)
        with console.status(shown(f"loading {spec.model} …")):
            vector = first.result()[0]
        if query is not None:
            _show(tables, f"“{query}”", options, _of(vector, query, options))
            return
        for asked in _prompted():
            try:
                check_query(asked)
                _show(tables, f"“{asked}”", options, _of(embed([asked])[0], asked, options))
            except (CommandError, LakeError, ValueError, RuntimeError) as error:
                errors.print(shown(str(error)), soft_wrap=True)


def check_query(query: str) -> None:
    """Before a model is loaded in vain."""
    if not any(c.isprintable() and not c.isspace() for c in query):
        raise CommandError(f"the query {query!r} has no words; say what to look for")


def _prompted() -> Iterator[str]:
    """Lines until there are no more."""
    while True:
        if sys.stdin.isatty():
            console.print(PROMPT, end="")
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def _of(vector: list[float], words: str, options: Options) -> Callable[[SearchTable], list[Hit]]:
    return lambda found: _found(found, vector, words, options)


def _found(found: SearchTable, vector: list[float], words: str, options: Options) -> list[Hit]:
    if options.hybrid:
        return searching.hybrid_search(found, vector, words, options.limit, options.where)
    return searching.search_table(found, vector, options.limit, options.where)


def _like(tables: list[SearchTable], id_: str, options: Options) -> None:
    """The rows nearest to one that is there, without itself."""
    if len(tables) > 1:
        raise CommandError(
            f"--like is a row of one dataset; say which: --dataset {' | '.join(t.dataset for t in tables)}"
        )
    vector = searching.vector_of(tables[0], id_)

    def others(found: SearchTable) -> list[Hit]:
        hits = searching.search_table(found, vector, options.limit + 1, options.where)
        return [hit for hit in hits if hit.id != id_][: options.limit]

    _show(tables, f"rows like {id_}", options, others)


def _show(
    tables: list[SearchTable], asked: str, options: Options, search_in: Callable[[SearchTable], list[Hit]]
) -> None:
    hits = list(itertools.chain.from_iterable(map(_named(options, search_in), tables)))
    if len(tables) > 1:
        hits = sorted(hits, key=lambda hit: -hit.score)[: options.limit]
    if options.as_json:
        console.print_data(as_json(hits))
    else:
        print_hits(f"{asked} in {', '.join(table.dataset for table in tables)}", hits)


def _named(options: Options, search_in: Callable[[SearchTable], list[Hit]]) -> Callable[[SearchTable], list[Hit]]:
    """What LanceDB says of a filter comes with the option's name and the columns that it can name."""

    def run(found: SearchTable) -> list[Hit]:
        try:
            return search_in(found)
        except (ValueError, RuntimeError) as error:
            if options.where is None or "index.full_text" in str(error):
                raise
            columns = ", ".join(found.columns) or "none: name some in index.columns"
            said = " ".join(str(error).split("Valid fields")[0].split())[:300]
            raise CommandError(
                f"--where {options.where!r}: {said} The columns of {found.dataset}: {columns}"
            ) from error

    return run


def _tables(lake: Lake, found: Sequence[Searchable]) -> list[SearchTable]:
    with lance_errors(lake, ", ".join(one.record.dataset for one in found)):
        return searching.open_tables(lake, found)


def _spec(found: Sequence[Searchable]) -> EmbeddingSpec:
    """The one that all these datasets' vectors were made with."""
    specs = {one.spec.spec_id: one.spec for one in found}
    if len(specs) > 1:
        raise CommandError(
            f"vectors of several models cannot be searched together ({', '.join(specs)}): name datasets of one, "
            "by --dataset or --pipeline"
        )
    return found[0].spec


@contextmanager
def _loaded(settings: Settings, lake: Lake, spec: EmbeddingSpec) -> "Iterator[EmbedQueries]":
    space = read_manifest(lake.store, layout.canaries_file(spec.spec_id), Space)
    with compute_resource(settings).queries(spec, space.canaries if space else None) as embed:
        yield embed
