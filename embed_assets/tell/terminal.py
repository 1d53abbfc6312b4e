"""The terminal that commands print to."""

from rich.console import Console

console = Console()
errors = Console(stderr=True)


class CommandError(Exception):
    """Ends a command with one clear sentence."""


def printable(text: str) -> str:
    """The text with control characters, and those that change the direction of writing, as escapes: `\\x1b`."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
