"""The arithmetic of the worker's bench: a wrong ratio looks as good as a right one."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.worker import busy, flops
from bench.worker.page import section
from bench.worker.rounds import alternate, ratios

MINILM = {"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 12, "num_hidden_layers": 6}


def spans(*steps: tuple[float, float], waits: tuple[tuple[float, float], ...] = ()) -> list[busy.Span]:
    return [busy.Span(t, "step", s) for t, s in steps] + [busy.Span(t, "wait", s) for t, s in waits]


def test_busy_is_what_the_engine_stepped_between_its_first_and_last_step() -> None:
    found = spans((10, 1), (12, 2), waits=((11, 1), (14, 5)))
    assert busy.share(found) == pytest.approx(0.75)
    assert busy.over_time(found, bins=4) == pytest.approx([1, 0, 1, 1])


def test_a_trace_without_a_step_is_refused() -> None:
    with pytest.raises(ValueError, match="no step"):
        busy.share(spans(waits=((0, 1),)))


def test_a_trace_is_read_and_drawn(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    lines = [{"t": 5.0, "kind": "step", "seconds": 3.0}, {"t": 4.0, "kind": "wait", "seconds": 1.0}]
    trace.write_text("".join(json.dumps(line) + "\n" for line in lines))
    busy.plot(busy.read_trace(trace), tmp_path / "images" / "busy.svg")
    assert "100.0%" in "".join(ElementTree.parse(tmp_path / "images" / "busy.svg").getroot().itertext())  # noqa: S314


def test_flops_of_a_token_come_from_the_shapes() -> None:
    matrices = 6 * 2 * (4 * 384 * 384 + 2 * 384 * 1536)
    assert flops.flops_per_token(MINILM, [100]) == matrices + 6 * 4 * 100 * 384
    assert flops.flops_per_token(MINILM, [10, 30]) == matrices + 6 * 4 * 25 * 384


def test_ratios_are_of_the_same_round() -> None:
    worker, bare = iter([100.0, 300.0, 200.0]), iter([125.0, 375.0, 1000.0])  # of the medians it would be 0.53
    contestants = {
        "worker": lambda: {"tokens_per_second": next(worker), "process_seconds": 10.0, "busy": 0.98},
        "bare": lambda: {"tokens_per_second": next(bare), "process_seconds": 9.0},
        "seed_loop": lambda: {"tokens_per_second": 100.0},
        "gemm": lambda: {"flops": 5000.0},
    }
    rounds = alternate(contestants, 3)
    assert rounds[1]["order"] == list(reversed(rounds[0]["order"]))
    found = ratios(rounds, flops_per_token=20)
    assert found["steady_over_bare"] == 0.8
    assert found["process_over_bare"] == 0.9
    assert found["over_seed_loop"] == 2.0
    assert found["over_sentence_transformers"] is None
    assert found["share_of_gemm"] == 0.8
    assert found["engine_busy"] == 0.98
    result = {**found, "rounds": rounds, "texts": 10, "tokens": 100, "gemm_tokens": [512], "flops_per_token": 2.2e7,
              "machine": {"cpu": "x", "cores": 2, "memory_gb": 8}, "versions": {"python": "3"}, "commit": "c", "date": "d",
              "growth": {"hash": {"rows": [1, 20], "rss_peak_mb": [100.0, 110.0], "ratio": 1.1}}}  # fmt: skip
    text = section(result)
    assert "| over sentence-transformers bf16 | not measured ×" in text
    assert "| steady state over vLLM alone | **0.8** " in text
    assert "| hash | 1 → 20 | 100 → 110 MB | 1.10 |" in text
