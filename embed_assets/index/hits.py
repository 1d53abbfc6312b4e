"""What a search found, as a table in the terminal."""

from rich.table import Table

from embed_assets.index.search import Hit
from embed_assets.tell.terminal import console, shown

CHARACTERS = 240


def print_hits(query: str, dataset: str, hits: list[Hit]) -> None:
    table = Table(title=shown(f"“{query}” in {dataset}"), title_justify="left", show_lines=False)
    table.add_column("score", justify="right", style="cyan", no_wrap=True)
    table.add_column("id", style="magenta", no_wrap=True)
    table.add_column("text", overflow="fold")
    for hit in hits:
        text = " ".join(hit.passage.split())
        text = text if len(text) <= CHARACTERS else text[: CHARACTERS - 1] + "…"
        table.add_row(f"{hit.score:.4f}", shown(hit.id), shown(text))
    console.print(table)
