"""What a search found: as a table in the terminal, and as JSON."""

import dataclasses
from typing import Any

from rich.table import Table

from embed_assets.index.search import Hit
from embed_assets.tell.terminal import console, shown

CHARACTERS = 240


def print_hits(title: str, hits: list[Hit]) -> None:
    table = Table(title=shown(title), title_justify="left", show_lines=False)
    table.add_column("score", justify="right", style="cyan", no_wrap=True)
    several = len({hit.dataset for hit in hits}) > 1
    if several:
        table.add_column("dataset", no_wrap=True)
    table.add_column("id", style="magenta", no_wrap=True)
    names = list(dict.fromkeys(name for hit in hits for name in hit.columns))
    for name in names:
        table.add_column(shown(name))
    table.add_column("passage", overflow="fold")
    for hit in hits:
        text = " ".join(hit.passage.split())
        text = text if len(text) <= CHARACTERS else text[: CHARACTERS - 1] + "…"
        values = ["" if (value := hit.columns.get(name)) is None else str(value) for name in names]
        cells = [f"{hit.score:.4f}", *([hit.dataset] if several else []), hit.id, *values, text]
        table.add_row(*map(shown, cells))
    console.print(table)


def as_json(hits: list[Hit]) -> list[dict[str, Any]]:
    """Whole passages; times as ISO 8601."""
    found = [dataclasses.asdict(hit) for hit in hits]
    for hit in found:
        hit["columns"] = {
            name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in hit["columns"].items()
        }
    return found
