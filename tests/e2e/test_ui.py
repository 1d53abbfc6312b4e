"""The Dagster UI in a real browser, with the real worker: materialize one partition, backfill the rest, read checks."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, TimeoutError, expect

from tests.kits import ROOT
from tests.kits.e2e.browser import CHROMIUM, chromium_page, dagster_dev
from tests.kits.e2e.demo_copy import DemoCopy
from tests.kits.processes import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.ui,
    pytest.mark.vllm,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium here (Debian: apt install chromium)"),
]
SHARDS, INDEX = "/assets/demo/embedding_shards", "/assets/demo/vector_index"
ROWS = "dagster/partition_row_count"
"""Metadata of a set and of an index."""
CONFIG = """\
ops:
  demo__update_op:
    config:
      datasets: [plot_summaries]
      only: missing
      max_attempts: 2
"""


def shoot(page: Page, name: str) -> None:
    """Keeps a screenshot where EMBED_SCREENSHOTS says; the README's pictures are made so."""
    if folder := os.environ.get("EMBED_SCREENSHOTS"):
        page.wait_for_timeout(1500)
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def launch(page: Page, selection: str | None) -> None:
    """The Materialize dialog on the page that is open: choose partitions, launch."""
    page.get_by_role("button", name="Materialize").first.click()
    dialog = page.get_by_role("dialog")
    if selection is not None:
        dialog.get_by_role("button", name=selection, exact=True).click()
    dialog.get_by_role("button", name="Launch").click()
    expect(dialog).to_be_hidden()


def see(page: Page, url: str, text: str) -> None:
    """Opens a page again until it shows a text: an event follows its manifest within moments."""

    def shows() -> bool:
        page.goto(url)
        try:
            page.get_by_text(text).first.wait_for(timeout=8000)
        except TimeoutError:
            return False
        return True

    wait_until(shows, f"{text!r} on {url}")


def test_a_person_materializes_backfills_and_reads_checks(deploy: Callable[[int], DemoCopy]) -> None:
    deployment = deploy(120)
    with dagster_dev(deployment) as url, chromium_page() as page:
        for asset, commits in (("raw_reviews", "*/*/snapshots/*.json"), ("stride_partitions", "*/*/*/*.json")):
            page.goto(f"{url}/assets/demo/{asset}?view=partitions")
            launch(page, "All")
            wait_until(
                lambda asset=asset, commits=commits: len(list(deployment.lake.glob(f"{asset}/{commits}"))) == 2,  # type: ignore[misc]
                f"manifests of {asset}",
            )
        page.goto(f"{url}{SHARDS}?view=partitions&partition=plot_summaries-00001")
        expect(page.get_by_text("Missing").first).to_be_visible()
        launch(page, None)
        wait_until(lambda: len(deployment.manifests()) == 1, "the one partition's manifest")
        assert "plot_summaries" in next(iter(deployment.manifests()))
        see(page, f"{url}{SHARDS}?view=partitions&partition=plot_summaries-00001", "tokens_per_second")
        one = deployment.manifests()

        page.goto(f"{url}{SHARDS}?view=partitions")
        launch(page, "Missing")
        wait_until(lambda: len(deployment.manifests()) == 6, "all manifests")
        assert one.items() <= deployment.manifests().items()
        see(page, f"{url}{SHARDS}?view=partitions&partition=plot_summaries-00001", "Materialized (8)")
        expect(page.get_by_text("tokens_per_second").first).to_be_visible()
        shoot(page, "partition")
        page.goto(f"{url}{SHARDS}?view=checks")
        expect(page.get_by_text("Succeeded")).to_have_count(6)
        shoot(page, "checks")
        see(page, f"{url}/assets/demo/embedding_set?view=partitions&partition=plot_summaries", ROWS)
        shoot(page, "embedding_set")
        page.goto(f"{url}{INDEX}?view=partitions")
        launch(page, "All")
        see(page, f"{url}{INDEX}?view=partitions&partition=plot_summaries", ROWS)
        expect(page.get_by_text("Materialized (2)")).to_be_visible()
        shoot(page, "vector_index")
        page.goto(f"{url}/locations/embed_assets/jobs/demo__update/playground")
        page.locator(".CodeMirror").first.click()
        page.keyboard.press("ControlOrMeta+a")
        page.keyboard.insert_text(CONFIG)
        expect(page.get_by_role("button", name="Launch Run")).to_be_enabled()
        shoot(page, "launch_update")
        page.goto(f"{url}/asset-groups")
        expect(page.get_by_text("vector_index").first).to_be_visible()
        shoot(page, "asset_graph")
    assert "all sound" in deployment.run("verify")


def test_screenshots_of_the_pages_exist() -> None:
    for name in ("asset_graph", "partition", "checks", "embedding_set", "vector_index", "launch_update"):
        assert (ROOT / f"docs/images/{name}.png").stat().st_size > 10_000
