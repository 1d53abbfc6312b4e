"""Failpoints: each name that is listed stands in the code once or more, and reaching one does what it says."""

import os
import re
import signal
import subprocess
import sys

import pytest

from embed_worker.lake import failpoints
from tests.kits import ROOT

REACH = "from embed_worker.lake import failpoints\nfor i in range(3): print(i, flush=True); failpoints.reach('manifest.ready')"


def reach(armed: str) -> subprocess.Popen[str]:
    environment = {"EMBED_FAILPOINT": armed, "PYTHONPATH": str(ROOT / "sky")}
    return subprocess.Popen([sys.executable, "-c", REACH], env=environment, stdout=subprocess.PIPE, text=True)


def test_the_names_are_those_in_the_code() -> None:
    rooms = [ROOT / "sky" / "embed_worker", ROOT / "embed_assets", ROOT / "resources"]
    sources = [path.read_text() for room in rooms for path in room.rglob("*.py")]
    found = {name for source in sources for name in re.findall(r'failpoints\.reach\("([^"]+)"\)', source)}
    assert found == set(failpoints.WORKER + failpoints.PLATFORM)


@pytest.mark.parametrize("armed", ["", "manifest.created", "manifest.ready:4"])
def test_one_that_is_not_armed_or_not_due_does_nothing(armed: str) -> None:
    process = reach(armed)
    assert process.communicate(timeout=60)[0] == "0\n1\n2\n" and process.returncode == 0


def test_the_process_is_killed_at_the_count() -> None:
    process = reach("manifest.ready:2")
    assert process.communicate(timeout=60)[0] == "0\n1\n" and process.returncode == -signal.SIGKILL


def test_the_process_is_stopped_and_goes_on_when_told() -> None:
    process = reach("manifest.ready:2:stop")
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=60)[0] == "0\n1\n2\n" and process.returncode == 0


@pytest.mark.parametrize("wrong", ["no.such", "manifest.ready:1:burn", "manifest.ready:x"])
def test_a_wrong_one_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError):
        failpoints.arm(wrong)
    failpoints.arm("")
