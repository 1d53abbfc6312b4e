"""A node that is not fit is told so in one sentence, before anything large is fetched."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from embed_worker import preflight
from embed_worker.lake.store import Store
from embed_worker.preflight import check_disk, check_driver, check_gpu, check_lake, main
from tests.kits import ROOT
from tests.kits.attempt.jobs import make_job, make_texts, write_job

LOCK = ROOT / "sky/locks/worker-gpu.txt"


def smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_a_driver_that_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(tmp_path, monkeypatch, "echo 580.95.05; echo 580.95.05")
    assert check_driver(LOCK) == "driver 580, 2 GPUs"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "echo 570.1; echo 580.1",
            "the driver is 570, worker-gpu.txt installs a CUDA that needs 580 .*EMBED_SKY_IMAGE_ID",
        ),
        ("echo NVML mismatch >&2; exit 9", "nvidia-smi fails on this node .NVML mismatch.*take another node"),
        ("echo 'No devices were found'", "No devices were found"),
    ],
)
def test_a_driver_that_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str) -> None:
    smi(tmp_path, monkeypatch, script)
    with pytest.raises(preflight.Unfit, match=said):
        check_driver(LOCK)


def test_no_driver_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(preflight.Unfit, match=r"no GPU driver.*EMBED_WORKER_PYTHON"):
        check_driver(LOCK)


def test_a_disk_that_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(preflight.FREE_GB, "10000000")
    with pytest.raises(preflight.Unfit, match=r"needs 10000000.*EMBED_SKY_DISK_SIZE"):
        check_disk(tmp_path)
    monkeypatch.setenv(preflight.FREE_GB, "0.001")
    assert "GB free" in check_disk(tmp_path)


def test_a_lake_that_may_be_used(lake: str, capsys: pytest.CaptureFixture[str]) -> None:
    url = write_job(make_job(lake, make_texts(3)))
    before = sorted(path for path, _ in Store(lake).walk(""))
    assert main(["lake", url]) == 0
    assert "create-only put and delete work" in capsys.readouterr().out
    assert sorted(path for path, _ in Store(lake).walk("")) == before, "it leaves nothing behind"


def test_on_s3(s3_root: str) -> None:
    assert "work" in check_lake(write_job(make_job(s3_root, make_texts(3))))


def test_a_store_that_overwrites_is_refused(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = write_job(make_job(lake, make_texts(3)))

    def create(self: Store, path: str, data: bytes) -> bool:
        self.replace(path, data)
        return True

    monkeypatch.setattr(Store, "create", create)
    with pytest.raises(preflight.Unfit, match=r"create-only puts are not honoured.*docs/lake\.md"):
        check_lake(url)


def test_a_role_that_may_not_delete(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = write_job(make_job(lake, make_texts(3)))
    monkeypatch.setattr(Store, "delete", lambda *_: None)
    with pytest.raises(preflight.Unfit, match="the right to delete"):
        check_lake(url)


def test_what_the_lake_says_is_the_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lake", str(tmp_path / "none.json")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("preflight lake: ") and "none.json" in said and "Traceback" not in said


class Matrix:
    """As torch's, of ones."""

    def __init__(self, value: float = 1.0, error: Exception | None = None) -> None:
        self.value, self.error = value, error

    def __matmul__(self, other: "Matrix") -> "Matrix":
        if self.error:
            raise self.error
        return Matrix(64.0 * self.value)

    def __eq__(self, other: object) -> Any:
        return SimpleNamespace(all=lambda: SimpleNamespace(item=lambda: self.value == other))


@pytest.mark.parametrize(
    ("there", "matrix", "said"),
    [
        (True, Matrix(), None),
        (False, Matrix(), "finds no usable GPU"),
        (True, Matrix(error=RuntimeError("CUDA error: out of memory")), "GPU 0 runs no kernel .CUDA error: out of mem"),
        (True, Matrix(1.5), "GPU 0 multiplies wrongly"),
    ],
)
def test_a_gpu_proves_itself(monkeypatch: pytest.MonkeyPatch, there: bool, matrix: Matrix, said: str | None) -> None:
    cuda = SimpleNamespace(is_available=lambda: there, device_count=lambda: 1, get_device_name=lambda _: "NVIDIA L4")
    torch = SimpleNamespace(
        cuda=cuda, ones=lambda *_, **__: matrix, __version__="2.13", version=SimpleNamespace(cuda="13.0")
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setenv("CC", "gcc")
    if said is None:
        assert check_gpu() == "NVIDIA L4"
        return
    with pytest.raises(preflight.Unfit, match=said):
        check_gpu()


def test_a_node_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cuda = SimpleNamespace(is_available=lambda: True, device_count=lambda: 0)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(preflight.Unfit, match=r"no C compiler.*gcc"):
        check_gpu()
