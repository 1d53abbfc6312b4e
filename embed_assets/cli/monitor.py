"""`embed-assets monitor`."""

import logging
import os

from embed_assets.monitor.access import TOKEN, check_binding
from embed_assets.settings import Settings
from embed_assets.tell.terminal import PrintableFormatter, console
from embed_worker.extras import need


def monitor(lake: str | None, host: str, port: int, interval: float) -> None:
    need("monitor")
    token = os.environ.get(TOKEN) or None
    check_binding(host, token)
    from embed_assets.monitor.app import serve

    root = lake or Settings().lake
    address = f"[{host}]" if ":" in host else host
    console.print(f"http://{address}:{port}", end="", highlight=False)
    asked = f"; {TOKEN} is asked for" if token else ""
    console.print(f"  {root}, read only{asked}", highlight=False)
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter())
    logging.basicConfig(handlers=[handler])
    serve(root, host, port, token, interval)
