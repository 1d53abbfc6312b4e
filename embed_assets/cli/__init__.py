"""`embed-assets`: the commands beside the Dagster UI."""

import sys

from embed_worker.extras import MissingExtra, need


def main() -> None:
    """Runs the command line; says so in one sentence where its packages are not installed."""
    try:
        need("cli")
    except MissingExtra as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    from embed_assets.cli.app import app

    app(prog_name="embed-assets")
