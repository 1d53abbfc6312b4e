"""What a search found, as a table in the terminal."""

from rich.table import Table
from rich.text import Text

from embed_assets.index.search import Hit
from embed_assets.tell.terminal import console


def print_hits(query: str, dataset: str, hits: list[Hit]) -> None:
    table = Table(title=Text(f"“{query}” in {dataset}"), title_justify="left", show_lines=False)
    table.add_column("score", justify="right", style="cyan", no_wrap=True)
    table.add_column("id", style="magenta", no_wrap=True)
    table.add_column("text", overflow="fold")
    for hit in hits:
        text = " ".join(hit.passage.split())
        table.add_row(f"{hit.score:.4f}", Text(hit.id), Text(text if len(text) <= 240 else text[:239] + "…"))
    console.print(table)
