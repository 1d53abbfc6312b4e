"""Pictures, summaries and the progress line: what people read in the Dagster UI."""

import base64
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed_assets.drive.progress import ProgressLine
from embed_assets.tell.pictures import histogram, image, log_bins, sparkline
from embed_assets.tell.summary import lengths_metadata, shard_summary
from embed_worker.lake.store import Store
from embed_worker.steps.raw import ingest
from resources.facts import JobFacts
from tests.kits import pipelines as kit

RECT = "{http://www.w3.org/2000/svg}rect"


def drawn(markdown: str) -> ElementTree.Element:
    found = re.search(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", markdown)
    assert found is not None
    return ElementTree.fromstring(base64.b64decode(found[1]))  # noqa: S314


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=200))
def test_a_sparkline_draws_any_series(values: list[float]) -> None:
    svg = ElementTree.fromstring(sparkline(values))  # noqa: S314
    bars = svg.findall(RECT)
    assert len(bars) == min(len(values), 60)
    for bar in bars:
        assert 0 <= float(bar.attrib["y"]) <= 44 and 1 <= float(bar.attrib["height"]) <= 44


@given(st.lists(st.integers(0, 2_000_000), min_size=1, max_size=300))
def test_a_histogram_counts_every_value_once(values: list[int]) -> None:
    edges, counts = log_bins(values)
    assert sum(counts) == len(values) and len(edges) == len(counts) + 1 and edges == sorted(set(edges))
    for low, high, number in zip(edges, edges[1:], counts, strict=False):
        assert number == sum(low <= max(value, 1) < high for value in values)
    assert len(ElementTree.fromstring(histogram(edges, counts, "characters")).findall(RECT)) == len(counts)  # noqa: S314


def test_hostile_words_stay_words() -> None:
    assert "](" not in image("<svg/>", "a](javascript:alert(1))")[2:].split("](data:")[0]
    assert "<script>" not in histogram([1, 2], [1], "<script>")


def test_the_lengths_of_a_snapshot(store: Store, source: Path) -> None:
    raw = ingest(store, kit.dataset(str(source))).manifest
    found = lengths_metadata(store, raw)
    lengths = sorted(len(record["text"]) for record in kit.texts(20))
    assert found["characters_mean"] == pytest.approx(sum(lengths) / 20)
    assert found["characters_median"] == (lengths[9] + lengths[10]) / 2
    assert drawn(found["text_lengths"]) is not None and "20 of the snapshot's 20 rows" in found["text_lengths"]


def test_a_summary_tells_cost_recoveries_and_links(lake: Path, source: Path) -> None:
    manifest = kit.Prepared(lake, str(source)).embed(0)
    facts = JobFacts(cost_dollars=0.5, on_demand_dollars=1.25, spot=True, infra="AWS (us-east-1)", recoveries=2)
    links = {"job": "https://sky/dashboard/jobs/7", "files": "s3://bucket/lake/x"}
    text = shard_summary(manifest, facts, links, [100.0, 200.0])
    assert "| cost | $0.5000 (on demand $1.2500) |" in text
    assert "(2 recoveries)" in text and "spot" in text
    assert "[job](https://sky/dashboard/jobs/7)" in text and "files: `s3://bucket/lake/x`" in text
    assert len(drawn(text).findall(RECT)) == 2
    no_price = JobFacts(unknown={"cost_dollars": "Slurm has no price list"})
    unknown = shard_summary(manifest, no_price, {}, [])
    assert "| cost | unknown: Slurm has no price list |" in unknown and "data:image" not in unknown
    assert "cost" not in shard_summary(manifest, JobFacts(), {}, [])


def test_a_progress_line_comes_when_something_changed_and_not_too_often() -> None:
    progress = ProgressLine(rows=1000, began=0.0)
    progress.adopted(200)
    assert progress.line(0.0, [("committed", 2), ("running", 3)], 10) == (
        "2 of 10 committed, 3 running; 200 of 1,000 rows"
    )
    progress.done(100)
    assert progress.line(5.0, [("committed", 3), ("running", 3), ("waiting", 0)], 10) is None
    assert progress.line(60.0, [("committed", 3), ("running", 3)], 10) == (
        "3 of 10 committed, 3 running; 300 of 1,000 rows, about 7 min to go"
    )
    assert progress.line(120.0, [("committed", 3), ("running", 3)], 10) is None, "nothing changed"
