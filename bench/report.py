"""Puts a bench's words into docs/performance.md or another page, between its own markers."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
HEAD = """\
# Performance

Each section is written by the bench that measured it, from `bench/results/`. Run it again on your machine.
"""


def write_section(name: str, text: str, file: Path = PAGE) -> None:
    """Replaces the section of that name, or adds it at the end."""
    begin, end = f"<!-- {name}: written by bench/ -->", f"<!-- /{name} -->"
    page = file.read_text() if file.exists() else HEAD
    block = f"{begin}\n{text.strip()}\n{end}"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    page = pattern.sub(lambda _: block, page) if pattern.search(page) else f"{page.rstrip()}\n\n{block}\n"
    file.write_text(page)
