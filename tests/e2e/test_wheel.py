"""The wheel, in an environment of its own: bare, and with the extras that a command asks for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kits import ROOT

pytestmark = pytest.mark.e2e

LOADED = """
import sys
import embed_assets
import embed_assets.definitions as d
keys = sorted(spec.key.to_user_string() for spec in d.defs.resolve_all_asset_specs())
print(keys, [name for name in {names!r} if name in sys.modules])
"""
OPTIONAL = ["vllm", "torch", "sky", "lancedb", "typer", "tokenizers", "fastapi", "s3fs", "aiohttp"]


def run(*command: str | Path, cwd: Path, code: int = 0, **env: str) -> str:
    result = subprocess.run(
        command, cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=600, check=False
    )
    assert result.returncode == code, f"{' '.join(map(str, command))}\n{result.stdout}\n{result.stderr}"
    return result.stdout + result.stderr


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` of a new environment with the wheel and no extra."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    (wheel,) = folder.glob("embed_assets-*.whl")
    run(folder / "venv/bin/python", "-m", "pip", "install", "-q", wheel, cwd=folder)
    return folder / "venv/bin"


def test_the_core_loads_and_validates_the_demo_without_any_extra(bare: Path, tmp_path: Path) -> None:
    loaded = run(bare / "python", "-c", LOADED.format(names=OPTIONAL), cwd=tmp_path)
    assert "demo/embedding_shards" in loaded and loaded.endswith("] []\n")
    for name in OPTIONAL:
        find = f"import importlib.util as u; print(u.find_spec({name!r}))"
        assert run(bare / "python", "-c", find, cwd=tmp_path) == "None\n", f"{name} came with the core"
    run(bare / "dagster", "definitions", "validate", "-m", "embed_assets.definitions", cwd=tmp_path)
    find = "import importlib.metadata as m; print([p.value for p in m.entry_points(group='dagster_dg_cli.registry_modules')])"
    assert "'embed_assets'" in run(bare / "python", "-c", find, cwd=tmp_path)


def test_what_is_missing_is_one_sentence(bare: Path, tmp_path: Path) -> None:
    """Each with the extra's name; the command line comes last, as the others are asked for through it."""
    said = run(bare / "embed-assets", "status", cwd=tmp_path, code=2)
    assert said == "error: typer is not installed here: pip install 'embed-assets[cli]'\n"
    run(bare / "python", "-m", "pip", "install", "-q", "typer", cwd=tmp_path)
    assert "a heist that goes wrong" in run(bare / "embed-assets", "search", "--help", cwd=tmp_path, COLUMNS="200")
    (tmp_path / "tickets.jsonl").write_text('{"text": "a"}\n')
    for extra, package, arguments, env in [
        ("index", "lancedb", ["search", "a cat"], {}),
        ("monitor", "fastapi, prometheus_client, uvicorn", ["monitor"], {}),
        ("skypilot", "skypilot", ["pool", "status"], {}),
        ("s3", "s3fs", ["status"], {"EMBED_LAKE": "s3://bucket/lake"}),
        ("gcs", "gcsfs", ["status"], {"EMBED_LAKE": "gs://bucket/lake"}),
        ("azure", "adlfs", ["status"], {"EMBED_LAKE": "az://bucket/lake"}),
    ]:
        said = run(bare / "embed-assets", *arguments, cwd=tmp_path, code=2, **env)
        verb = "are" if "," in package else "is"
        assert f"{package} {verb} not installed here: pip install 'embed-assets[{extra}]'" in said, said
        assert said.startswith("error: ") and said.count("\n") == 1, said
