"""The monitor's server on a lake, and its page in a browser."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from playwright.sync_api import Page

from embed_assets.monitor.app import build_app
from embed_assets.monitor.lake import ReadOnlyLake
from embed_assets.monitor.watch import Watch
from tests.kits.e2e.browser import chromium_page
from tests.kits.processes import free_port, wait_until


@contextmanager
def monitor(lake: Path, interval: float = 0.5) -> Iterator[str]:
    """The server on a lake, by its URL."""
    watch = Watch(ReadOnlyLake(str(lake)), interval)
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(build_app(watch, None), host="127.0.0.1", port=port, log_level="warning")  # type: ignore[arg-type]
    )
    thread = threading.Thread(target=server.run, daemon=True)
    watch.start()
    thread.start()
    wait_until(lambda: server.started, "the monitor's start", 30)
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.should_exit = True
        watch.stop()
        thread.join(10)


@contextmanager
def watched_page(url: str) -> Iterator[Page]:
    """The page; fails where it reports an error or asks another host for anything."""
    with chromium_page() as page:
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: None if request.url.startswith(url) else wrong.append(request.url))
        page.goto(url)
        page.wait_for_selector("html[data-revision]")
        yield page
        assert wrong == []


def shoot(page: Page, name: str) -> None:
    """Keeps a screenshot where EMBED_SCREENSHOTS says; the docs' pictures are made so."""
    if folder := os.environ.get("EMBED_SCREENSHOTS"):
        page.wait_for_timeout(600)
        used = min(900, page.evaluate("Math.ceil(document.querySelector('main').getBoundingClientRect().bottom)"))
        clip = {"x": 0, "y": 0, "width": 1400, "height": used}
        page.screenshot(path=str(Path(folder) / f"{name}.png"), clip=clip)  # type: ignore[arg-type]


def cell(page: Page, stride: int, dataset: str = "reviews") -> Any:
    return page.locator(f'[data-key="{dataset}-{stride:05d}"]')


def becomes(page: Page, stride: int, what: str) -> None:
    """Without a reload: the cell's label is what a screen reader says."""
    found = page.locator(f'[data-key="reviews-{stride:05d}"][aria-label*="{what}"]')
    found.wait_for(timeout=90_000)


def counts(page: Page) -> dict[str, int]:
    buttons = page.locator("#legend button")
    return {b.get_attribute("data-state") or "": int(b.locator("b").inner_text()) for b in buttons.all()}
