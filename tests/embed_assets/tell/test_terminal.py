"""What a terminal would obey, or read as markup, is only shown."""

import io
import json
import logging
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from embed_assets.index.hits import print_hits
from embed_assets.index.search import Hit
from embed_assets.tell import terminal
from embed_assets.tell.terminal import PrintableFormatter, Terminal, printable, shown

ANSI = "\x1b[31mred\x1b[0m \x1b]0;title taken over\x07 kettle \x1b[2J\x9b2J\x7f\x00\u202eright\u2066to\u2069left"
MARKUP = "[bold]no[/] [link=http://x]y[/link] :heart: [/]"
OBEYED = {"Cc", "Cs", "Zl", "Zp"}
DIRECTIONS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def harmless(text: str) -> bool:
    return not any(
        c != "\n" and (unicodedata.category(c) in OBEYED or unicodedata.bidirectional(c) in DIRECTIONS) for c in text
    )


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A pipe: every escape sequence on it is a text's."""
    file = io.StringIO()
    console = Terminal()
    console.file, console.width = file, 300
    monkeypatch.setattr(terminal, "console", console)
    monkeypatch.setattr("embed_assets.index.hits.console", console)
    return file


def test_hits_show_what_their_texts_hold(screen: io.StringIO) -> None:
    print_hits(ANSI, [Hit(0.5, ANSI, 0, ANSI), Hit(0.4, MARKUP, 0, MARKUP)])
    said = screen.getvalue()
    assert harmless(said), said
    assert said.count(r"\x1b[31mred\x1b[0m") == 3 and r"\x9b2J\x7f\x00\u202eright" in said
    assert said.count(MARKUP) == 2


def test_a_string_that_nobody_has_looked_at_is_harmless_too(screen: io.StringIO) -> None:
    table = Table(title=ANSI)
    table.add_column(ANSI)
    table.add_row(ANSI)
    table.add_row(MARKUP)
    terminal.console.print(table, ANSI, MARKUP, shown(MARKUP))
    said = screen.getvalue()
    assert harmless(said), said
    assert said.count(MARKUP) == 3


def test_json_is_ascii_and_the_same_data(screen: io.StringIO) -> None:
    data = [{"path": ANSI + MARKUP + "é\u2028"}]
    terminal.console.print_data(data)
    said = screen.getvalue()
    assert said.isascii() and harmless(said) and json.loads(said) == data


def test_a_log_shows_them() -> None:
    record = logging.LogRecord("x", logging.WARNING, "", 0, "the lake: %s", (ANSI,), None)
    assert harmless(PrintableFormatter().format(record))


@given(st.text(st.characters()))
def test_printable_is_harmless_and_told_once(text: str) -> None:
    said = printable(text)
    assert harmless(said)
    assert printable(said) == said


@pytest.mark.parametrize(
    "text", ["naïve 東京 😀", "👨\u200d👩\u200d👧", "می\u200cخواهم", "a\u00a0b", "שלום", "1\u202f000\u205fm"]
)
def test_the_writing_of_any_language_stays(text: str) -> None:
    assert printable(text) == text
