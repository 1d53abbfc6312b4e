"""Prices from the real SkyPilot's catalog, offline, in a process and a HOME of its own."""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from resources.skypilot.prices import catalog_quotes
from tests.kits.slurm_lab.catalogs import seed_catalogs

pytestmark = pytest.mark.slow

ASK = """
import dataclasses, json
from resources.skypilot.prices import catalog_quotes
for infra in (None, "aws/us-east-1", "slurm/mine"):
    quotes = catalog_quotes(["L4", "H100", "H100:8", "T4"], infra)
    print("QUOTES", json.dumps({name: dataclasses.asdict(quote) for name, quote in quotes.items()}))
"""


def test_the_cheapest_machine_of_each_accelerator(tmp_path: Path) -> None:
    importlib.metadata.version("skypilot")
    seed_catalogs(tmp_path)
    mine = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}  # other tests' S3 server
    environment = {**mine, "HOME": str(tmp_path), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
    done = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    anywhere, aws, slurm = (
        json.loads(line.removeprefix("QUOTES ")) for line in done.stdout.splitlines() if line.startswith("QUOTES ")
    )
    # GCP prices host and GPU apart: 0.06 + 0.22 and 0.14 + 0.56, cheaper than AWS' 0.30 and 0.80.
    assert (anywhere["L4"]["spot"], anywhere["L4"]["on_demand"]) == (pytest.approx(0.28), pytest.approx(0.70))
    assert anywhere["L4"]["spot_place"].startswith("GCP")
    assert (aws["L4"]["spot"], aws["L4"]["on_demand"]) == (pytest.approx(0.30), pytest.approx(0.80))
    assert (aws["H100:8"]["spot"], aws["H100"]["spot"]) == (pytest.approx(40.0), None)
    assert anywhere["T4"]["spot"] is None and anywhere["T4"]["reason"]
    assert slurm["L4"] == {
        "spot": None, "on_demand": None, "spot_place": "", "on_demand_place": "", "reason": "slurm has no price list here",
    }  # fmt: skip


def test_without_skypilot_prices_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    quote = catalog_quotes(["L4"])["L4"]
    assert quote.spot is quote.on_demand is None and "skypilot is not installed" in quote.reason


def test_a_catalog_that_cannot_be_read_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(cloud: str, accelerator: str, count: int) -> list[object]:
        raise OSError(f"no {cloud} catalog")

    monkeypatch.setattr("resources.skypilot.prices._machines", broken)
    quote = catalog_quotes(["L4"])["L4"]
    assert quote.spot is None and quote.reason.startswith("aws: OSError: no aws catalog")
