"""The wheel, in an environment of its own with nothing but its default dependencies."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.kits import ROOT

pytestmark = pytest.mark.e2e


def run(*command: str, cwd: Path) -> str:
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def test_the_wheel_builds_and_its_cli_starts_in_a_clean_environment(tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path / "dist"), str(ROOT), cwd=tmp_path)
    wheel = next((tmp_path / "dist").glob("embed_assets-*.whl"))
    run(sys.executable, "-m", "venv", str(tmp_path / "venv"), cwd=tmp_path)
    python = str(tmp_path / "venv/bin/python")
    run(python, "-m", "pip", "install", "-q", str(wheel), cwd=tmp_path)
    helped = run(str(tmp_path / "venv/bin/embed-assets"), "search", "--help", cwd=tmp_path)
    assert "Example:" in helped and "a heist that goes wrong" in helped
    loaded = run(
        python, "-c", "import embed_assets.definitions as d; print(sorted(s.key.to_user_string() for s in "
        "d.defs.resolve_all_asset_specs()))", cwd=tmp_path,
    )  # fmt: skip
    assert "demo/embedding_shards" in loaded
    assert (
        run(
            python, "-c", "import importlib.util as u; print([u.find_spec(n) for n in ('vllm', 'torch')])", cwd=tmp_path
        )
        == "[None, None]\n"
    )
