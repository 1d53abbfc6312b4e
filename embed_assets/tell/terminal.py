"""The terminal that commands print to."""

from rich.console import Console

console = Console()
errors = Console(stderr=True)


class CommandError(Exception):
    """Ends a command with one clear sentence."""
