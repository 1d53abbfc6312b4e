"""`make gpu-check` without a GPU: it says so at once; with stand-ins for the steps, what each came to is kept."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import gpu_check
from bench.gpu_check import Step, agreement, main, steps


def run_main(monkeypatch: pytest.MonkeyPatch, results: Path, python: Path = Path(sys.executable)) -> Any:
    arguments = ["gpu_check", "--results", str(results), "--worker-python", str(python)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


def test_without_a_gpu_nothing_else_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This environment has no torch: that is a sentence, too."""
    results = tmp_path / "gpu.json"
    assert "no GPU that the worker could use" in run_main(monkeypatch, results)
    assert list(json.loads(results.read_text())["steps"]) == ["preflight"]


def test_a_step_that_fails_or_hangs_keeps_no_other_from_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def says(canaries: list[list[float]]) -> list[str]:
        return [sys.executable, "-c", f"print('FIGURES {json.dumps({'canaries': canaries})}')"]

    made = [
        Step("preflight", ["true"], 10),
        Step("fails", [sys.executable, "-c", "import sys; sys.exit('broken')"], 10),
        Step("hangs", ["sleep", "60"], 0.3),
        Step("is not there", ["/nowhere/python"], 10),
        Step("variant: as shipped", says([[1.0, 0.0], [0.0, 1.0]]), 10),
        Step("variant: other", says([[1.0, 0.0], [0.6, 0.8]]), 10),
    ]
    monkeypatch.setattr(gpu_check, "steps", lambda *_: made)
    results = tmp_path / "gpu.json"
    assert "other vectors: variant: other" in run_main(monkeypatch, results)
    told = json.loads(results.read_text())
    assert {name: one["ok"] for name, one in told["steps"].items()} == {
        "preflight": True, "fails": False, "hangs": False, "is not there": False,
        "variant: as shipped": True, "variant: other": True,
    }  # fmt: skip
    assert told["agreement"] == {"variant: as shipped": 1.0, "variant: other": 0.8}
    assert "broken" in told["steps"]["fails"]["said"] and "not over" in told["steps"]["hangs"]["said"]


def test_every_variant_is_a_spec_that_the_worker_takes() -> None:
    from embed_worker.lake.spec import EmbeddingSpec

    made = [step for step in steps(Path("python"), Path("/m"), 10) if step.name.startswith("variant")]
    ids = {EmbeddingSpec.model_validate_json(step.command[3]).spec_id for step in made}
    assert len(made) == 4 and len(ids) == 1, "engine arguments change no identity"
    compile(gpu_check.VARIANT, "variant", "exec")
    assert agreement({}) == {}
