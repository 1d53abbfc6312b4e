"""Folders of a run: one is removed at the end, or by the next run where a kill left it; a living run's is not."""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from resources.compute import BackendBroken
from resources.folders import run_folder

RUN = """
import time
from resources.folders import run_folder
with run_folder("logs") as folder:
    (folder / "worker-1.log").write_text("a text")
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_the_folder_of_a_killed_run_goes_with_the_next_one_and_that_of_a_living_one_stays(temp: Path) -> None:
    command = [sys.executable, "-c", RUN]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as living,
    ):
        assert killed.stdout is not None and living.stdout is not None
        left, kept = Path(killed.stdout.readline().strip()), Path(living.stdout.readline().strip())
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert left.is_dir() and kept.is_dir()
        with run_folder("logs") as mine, run_folder("staged") as other:
            assert mine != other and mine.is_dir() and other.is_dir()
            assert not left.exists()
            assert (kept / "worker-1.log").read_text() == "a text"
        assert all(path.name.startswith(kept.name) for path in kept.parent.iterdir())
        living.kill()


def test_a_folder_of_somebody_else_is_not_used(temp: Path) -> None:
    with run_folder("logs") as folder:
        parent = folder.parent
    assert list(parent.iterdir()) == []
    parent.chmod(0o777)
    with pytest.raises(BackendBroken, match="set TMPDIR"), run_folder("logs"):
        pass
    parent.rmdir()
    parent.symlink_to(temp)
    with pytest.raises(BackendBroken, match="set TMPDIR"), run_folder("logs"):
        pass
