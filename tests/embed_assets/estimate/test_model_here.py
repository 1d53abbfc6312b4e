"""What the plan finds of a model on this machine: its folder, or the hub's cache. The hub is not asked."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from embed_assets.estimate.model import parameters_of
from embed_worker.engine.hash import byte_tokenizer
from tests.kits import ROOT

LOOK = """
from embed_assets.estimate.model import describe
from embed_assets.estimate.tokens import find_tokenizer
from embed_assets.spec.pipeline import PlanAssumptions
from tests.kits import pipelines as kit
for revision in (None, "0" * 40, "1" * 40):
    pipeline = kit.pipeline([kit.dataset("s")], embedding=kit.spec(model="some/model", revision=revision))
    print(describe(pipeline).dimension, find_tokenizer(pipeline)[1])
"""


@pytest.mark.slow
def test_the_hubs_cache_is_looked_into(tmp_path: Path) -> None:
    """At the revision that the pipeline names, or at what the hub called `main` when it was fetched."""
    model = tmp_path / "hub" / "models--some--model"
    snapshot = model / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps({"hidden_size": 8}))
    byte_tokenizer().save(str(snapshot / "tokenizer.json"))
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("0" * 40)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", LOOK], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True,
        env={**environment, "HF_HOME": str(tmp_path), "HTTPS_PROXY": "http://127.0.0.1:1"},
    )  # fmt: skip
    here = f"8 {snapshot / 'tokenizer.json'}"
    [main, named, other] = done.stdout.splitlines()
    assert main == named == here
    assert other.startswith("None the tokenizer of some/model is not on this machine")


@pytest.mark.parametrize("data", [b"", b"\xff" * 8, b"\x08" + b"\0" * 7 + b"not json", (1 << 40).to_bytes(8, "little")])
def test_a_file_that_is_no_safetensors_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"model\.safetensors is not a safetensors file"):
        parameters_of(path)
