"""`embed-assets monitor`."""

import importlib.util
import os

from embed_assets.monitor.access import TOKEN, check_binding
from embed_assets.settings import Settings
from embed_assets.tell.terminal import CommandError, console, printable

NEEDED = ("fastapi", "uvicorn", "prometheus_client")


def monitor(lake: str | None, host: str, port: int, interval: float) -> None:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise CommandError(f"{', '.join(missing)} not installed: in a clone: pip install -e '.[monitor]'")
    token = os.environ.get(TOKEN) or None
    check_binding(host, token)
    from embed_assets.monitor.app import serve

    root = lake or Settings().lake
    address = f"[{host}]" if ":" in host else host
    console.print(f"http://{address}:{port}", end="", highlight=False)
    asked = f"; {TOKEN} is asked for" if token else ""
    console.print(f"  {printable(root)}, read only{asked}", highlight=False, markup=False)
    serve(root, host, port, token, interval)
