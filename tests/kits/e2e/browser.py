"""A headless Chromium and a real `dagster dev`, for tests that look at the UI as a person would."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.kits import ROOT
from tests.kits.e2e.demo_copy import Deployment
from tests.kits.processes import free_port, wait_until

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def dagster_dev(deployment: Deployment, *target: str) -> Iterator[str]:
    """Webserver and daemon on the deployment, by their URL; stopped by pid afterwards. `target`: the code location,
    instead of this repository's."""
    port = free_port()
    log = (deployment.folder / "dagster.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "dagster", "dev", *(target or ("-w", "workspace.yaml")), "-h", "127.0.0.1", "-p", str(port)],
        cwd=ROOT, env=deployment.env, stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, Path(log.name).read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"{url}/server_info", timeout=2) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        wait_until(answers, "the webserver's first answer")
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        log.close()


@contextmanager
def chromium_page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(60_000)
        yield page
        browser.close()
