"""The monitor's page in a real browser, against lakes that real workers are writing and a lake of a thousand partitions."""

import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from embed_assets.monitor import states
from tests.kits import ROOT
from tests.kits import pipelines as kit
from tests.kits.e2e.browser import CHROMIUM, chromium_page
from tests.kits.e2e.monitor_page import becomes, cell, counts, monitor, shoot, watched_page
from tests.kits.e2e.paced_fleet import STRIDES, PacedFleet
from tests.kits.monitor_lake import FakeLake, large
from tests.kits.processes import wait_until

pytestmark = [
    pytest.mark.ui,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium here (Debian: apt install chromium)"),
]
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


@pytest.fixture
def fleet() -> Iterator[PacedFleet]:
    with tempfile.TemporaryDirectory(prefix="reviews-") as folder:  # a short name, for the pictures
        made = PacedFleet(Path(folder))
        yield made
        made.stop()


def spoil(fleet: PacedFleet, stride: int) -> None:
    """The rows of one stride in the slice of all."""
    span = fleet.prepared.job(stride).spans[0]
    path = fleet.lake / span.path
    data = bytearray(path.read_bytes())
    begin = span.offset + span.length // 4
    data[begin : begin + span.length // 2] = bytes(byte ^ 1 for byte in data[begin : begin + span.length // 2])
    path.unlink()
    path.write_bytes(data)


def test_a_person_watches_partitions_start_stall_recover_and_commit(
    fleet: PacedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "SILENT_SECONDS", 4.0)
    place = {"SKYPILOT_CLUSTER_INFO": '{"cloud": "GCP", "region": "us-east4", "zone": "us-east4-a"}'}
    fleet.prepared.resource.write_job(fleet.prepared.job(0))
    spoil(fleet, 23)
    with monitor(fleet.lake) as url, watched_page(url) as page:
        assert counts(page) == {
            "committed": 0,
            "running": 0,
            "recovering": 0,
            "stale": 0,
            "failed": 0,
            "waiting": STRIDES,
            "damaged": 0,
        }
        expect(page.locator("#eta")).to_have_text("unknown")
        expect(page.locator("#spend")).to_have_text("unknown")

        killed = fleet.start(0, 1, 2, 3, **place)
        preempted = fleet.start(8, 9, 10, **place)
        fleet.start(16, 17, EMBED_PRICE_PER_HOUR="0.25", EMBED_SPOT="1", **place)
        fleet.start(23)
        for stride in (0, 8, 16):
            becomes(page, stride, "running")
        becomes(page, 23, "failed")
        cell(page, 23).click()
        expect(page.locator("#detail")).to_contain_text("Re-materialize stride_partitions")
        becomes(page, 0, " %")  # rows in checkpoints
        expect(page.locator("#workers tbody tr")).to_have_count(3)
        expect(page.locator("#workers")).to_contain_text("us-east4-a")
        fleet.set_pace(0.05)
        wait_until(
            lambda: len(list(fleet.lake.glob("embedding_shards/*/*/*/*/*/_manifest.json"))) >= 2, "two manifests"
        )
        fleet.set_pace(0.5)  # at once: the page is some seconds behind, and there must be work left to interrupt
        wait_until(lambda: counts(page)["committed"] >= 2, "the first commits on the page")
        expect(page.locator("#eta")).not_to_have_text("unknown")
        shoot(page, "monitor")

        at_kill, at_term = fleet.in_hand(0, 1, 2, 3), fleet.in_hand(8, 9, 10)
        killed.send_signal(signal.SIGKILL)
        preempted.send_signal(signal.SIGTERM)
        becomes(page, at_term, "recovering")
        becomes(page, at_kill, "stale")
        expect(page.locator("#workers .tag.silent")).to_have_count(1)

        fleet.start(*range(at_kill, 4), **place)
        fleet.start(*range(at_term, 11), **place)
        becomes(page, at_kill, "running")
        becomes(page, at_kill, "recovered 1×")
        expect(page.locator("#workers .tag.silent")).to_have_count(0)
        fleet.set_pace(0.005)
        becomes(page, at_kill, "committed, recovered 1×")
        becomes(page, at_term, "committed, recovered 1×")
        cell(page, at_kill).click()
        expect(page.locator("#detail")).to_contain_text("recovered 1×")
        shoot(page, "monitor_recovered")

        fleet.start(*(n for n in range(STRIDES) if n not in (0, 1, 2, 3, 8, 9, 10, 16, 17, 23)), **place)
        wait_until(lambda: counts(page)["committed"] == STRIDES - 1, "all but the failed one committed")
        assert counts(page)["failed"] == 1
        expect(page.locator("#workers")).to_contain_text("No worker is at work.")
        expect(page.locator("#spend-sub")).to_contain_text("unknown for")  # two of the partitions had a price
        shoot(page, "monitor_end")
    assert len(kit.manifests(fleet.lake)) == STRIDES - 1 + 2  # and the two pointers: the page wrote nothing


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("thousand")
    large(root, time.time(), every=3600.0)
    return root


def test_a_thousand_partitions_are_drawn_at_once_and_then_left_alone(thousand: Path) -> None:
    with monitor(thousand) as url, watched_page(url) as page:
        keep({"partitions": 1000, "draw_ms": float(page.evaluate("document.documentElement.dataset.renderMs"))})
        assert page.locator("#grid .cell").count() == 1000
        assert counts(page)["committed"] == 420 and sum(counts(page).values()) == 1000
        box = page.locator("#grid .cell").first.bounding_box()
        assert box is not None and box["width"] >= 14
        grid = page.locator("#grid").bounding_box()
        assert grid is not None and grid["height"] < 520  # all on one screen
        expect(page.locator("#workers tbody tr")).to_have_count(345)
        expect(page.locator("#regions tbody tr")).to_have_count(5)
        expect(page.locator("#workers .tag.straggler")).to_have_count(1)
        page.evaluate(
            """() => { window.touched = 0; new MutationObserver((all) => { window.touched += all.length; })
               .observe(document.getElementById("grid"), { childList: true, subtree: true, attributes: true }); }"""
        )
        revision = int(page.evaluate("document.documentElement.dataset.revision"))
        wait_until(lambda: int(page.evaluate("document.documentElement.dataset.revision")) > revision, "two more looks")
        assert page.evaluate("window.touched") == 0
        cell(page, 171, "books").click()
        shoot(page, "monitor_1000")


def keep(figures: dict[str, float]) -> None:
    if folder := os.environ.get("EMBED_BENCH_RESULTS"):
        (Path(folder) / "monitor.json").write_text(json.dumps(figures, indent=2) + "\n")


def test_the_grid_is_usable_from_the_keyboard(thousand: Path) -> None:
    with monitor(thousand) as url, watched_page(url) as page:
        focused: Callable[[], str] = lambda: page.evaluate("document.activeElement.dataset.key ?? ''")  # noqa: E731
        assert page.locator('#grid [tabindex="0"]').count() == 1
        page.locator('#grid [tabindex="0"]').focus()
        assert focused() == "books-00000"
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        assert focused() == "books-00002"
        below = page.evaluate(
            """() => { const a = document.activeElement;
               return [...document.querySelectorAll("#grid .cell")].find((c) =>
                 c.offsetTop > a.offsetTop && c.offsetLeft === a.offsetLeft).dataset.key; }"""
        )
        page.keyboard.press("ArrowDown")
        assert focused() == below
        expect(page.locator("#detail")).to_contain_text(below)
        page.keyboard.press("ArrowUp")
        assert focused() == "books-00002"
        page.keyboard.press("End")
        assert focused() == "books-00999"
        assert page.locator('#grid [tabindex="0"]').count() == 1
        labels = page.locator("#grid .cell").evaluate_all(
            "all => all.filter((c) => !c.getAttribute('aria-label')).length"
        )
        assert labels == 0
        page.get_by_role("button", name="failed").press("Enter")
        assert page.locator("#grid .cell:not(.dim)").count() == 3
        page.get_by_role("button", name="failed").press("Enter")
        assert page.locator("#grid .cell.dim").count() == 0
        page.get_by_role("button", name="rows/s").press("Enter")
        expect(page.locator('#workers th[aria-sort="ascending"]')).to_have_text("rows/s")


def test_no_state_is_told_by_colour_alone(thousand: Path) -> None:
    with monitor(thousand) as url, watched_page(url) as page:
        looks = page.evaluate(
            """() => { const found = {}; for (const c of document.querySelectorAll("#grid .cell")) {
                 const state = c.className.split(" ")[1]; const s = getComputedStyle(c);
                 found[state] ??= [c.textContent, s.backgroundImage === "none" ? "" : "part",
                   s.backgroundColor === "rgba(0, 0, 0, 0)" ? "hollow" : "full"].join("/"); } return found; }"""
        )
    assert len(set(looks.values())) == len(looks) == 6, looks


def test_light_and_dark_by_system_and_by_choice(thousand: Path) -> None:
    with monitor(thousand) as url, watched_page(url) as page:
        ground: Callable[[], str] = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")  # noqa: E731
        light = ground()
        page.emulate_media(color_scheme="dark")
        dark = ground()
        assert light != dark
        shoot(page, "monitor_dark")
        page.get_by_role("button", name="Colours: as the system").click()
        assert ground() == light
        page.get_by_role("button", name="Colours: light").click()
        assert ground() == dark
        page.emulate_media(color_scheme="light")
        page.reload()
        assert ground() == dark  # the choice is kept
        page.get_by_role("button", name="Colours: dark").click()
        assert ground() == light


def test_hostile_texts_are_shown_as_text(tmp_path: Path) -> None:
    made = FakeLake(tmp_path, 2)
    made.beat(0, time.time(), host=HOSTILE, region=HOSTILE, phase=HOSTILE, hardware={"gpus": [HOSTILE]})
    made.beat(1, time.time(), phase="stopped", ending="bad_job", error=HOSTILE, region=HOSTILE)
    with monitor(tmp_path) as url, watched_page(url) as page:
        cell(page, 1, "books").click()
        expect(page.locator("#detail .error")).to_have_text(HOSTILE)
        expect(page.locator("#workers")).to_contain_text(HOSTILE)
        expect(page.locator("#regions")).to_contain_text(HOSTILE)
        assert page.locator("img").count() == 0 and "owned" not in page.title()


def test_it_says_so_when_the_server_is_gone_and_the_api_page_needs_no_internet(thousand: Path) -> None:
    with monitor(thousand) as url:
        with watched_page(url) as page:
            page.goto(f"{url}api")
            page.get_by_role("button", name="ask").first.click()
            expect(page.locator("pre").first).to_contain_text('"rows_done"')
            expect(page.get_by_text("/api/history")).to_be_visible()
        with chromium_page() as page:
            page.goto(url)
            expect(page.locator("#live")).to_have_text("live")
            page.context.set_offline(True)
            expect(page.locator("#live")).to_contain_text("the server does not answer")
            page.context.set_offline(False)
            expect(page.locator("#live")).to_have_text("live")


def test_screenshots_of_the_docs_exist() -> None:
    for name in ("monitor", "monitor_1000"):
        assert 10_000 < (ROOT / f"docs/images/{name}.png").stat().st_size < 200_000
