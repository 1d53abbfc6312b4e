"""The worker's vectors against transformers, with the real vLLM in the worker's environment."""

import json
import subprocess
from typing import Any

import pytest

from tests.kits import ROOT
from tests.kits.vllm import MINILM, PYTHON

pytestmark = [pytest.mark.vllm, pytest.mark.xdist_group("vllm"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One process loads all the engines, one after another: its start is what costs."""
    python = PYTHON if PYTHON.is_absolute() else ROOT / PYTHON
    if not python.exists() or not (MINILM / "model.safetensors").exists():
        pytest.fail(f"needs {python} and {MINILM}: run `make setup`")
    work = tmp_path_factory.mktemp("vllm")
    script = ROOT / "tests/kits/vllm/against_transformers.py"
    done = subprocess.run(
        [str(python), str(script), str(MINILM), str(work)], capture_output=True, text=True, timeout=550, check=False
    )
    assert done.returncode == 0, done.stderr[-6000:]
    result: dict[str, Any] = json.loads(done.stdout)  # and nothing but this: libraries' prints went to stderr
    return result


def test_minilm_is_the_reference_model(figures: dict[str, Any]) -> None:
    minilm = figures["minilm"]
    assert minilm["cosine"] >= 0.9999
    assert minilm["norm_error"] < 1e-4
    assert minilm["rows"] == 50 and minilm["rows_missing"] == []
    assert minilm["engine"]["engine"] == "vllm"


def test_a_long_text_comes_as_full_windows(figures: dict[str, Any]) -> None:
    assert figures["minilm"]["windows_of_the_long_text"] >= 3
    assert figures["minilm"]["longest"] == 256


def test_vllm_refusing_a_sequence_is_a_reason_not_a_crash(figures: dict[str, Any]) -> None:
    reason = figures["minilm"]["too_long"]
    assert reason.startswith("engine: ") and "402" not in reason and "maximum" in reason


def test_canaries_are_embedded_among_the_texts(figures: dict[str, Any]) -> None:
    """Also when all texts have been taken: the rejects are committed once they have come out right."""
    assert figures["minilm"]["spoilt"] == {"non-finite vector": 10}


def test_an_aborted_call_leaves_nothing_for_the_next(figures: dict[str, Any]) -> None:
    assert figures["minilm"]["after_abort"] >= 0.9999


def test_qwen2_runs_with_the_attention_the_spec_says(figures: dict[str, Any]) -> None:
    qwen = figures["qwen"]
    assert qwen["bidirectional"] >= 0.999
    assert qwen["causal"] >= 0.999
    assert qwen["between"] < 0.99, "else this test could not tell one from the other"


def test_a_spec_that_contradicts_the_model_is_refused(figures: dict[str, Any]) -> None:
    refusals = figures["refusals"]
    assert "attention: causal" in refusals["attention"] and "bidirectional" in refusals["attention"]
    assert "pooling: last" in refusals["pooling"] and "mean" in refusals["pooling"]
    assert "no_such_argument" in refusals["argument"]


def test_normalize_false_reaches_the_engine(figures: dict[str, Any]) -> None:
    assert abs(figures["refusals"]["raw"] - 1) > 0.1


def test_dimensions_cut_and_normalise_only_where_the_model_declares_it(figures: dict[str, Any]) -> None:
    assert "does not declare" in figures["refusals"]["dimensions"]
    cut = figures["matryoshka"]
    assert cut["shape"] == [50, 32] and cut["cosine"] >= 0.9999 and cut["norm_error"] < 1e-4
    assert "declares [16, 32]" in cut["other"]
