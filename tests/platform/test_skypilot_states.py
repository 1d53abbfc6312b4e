"""Every status of a managed job means something to us, and every bad end says what to do."""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

from resources.compute import JobState
from resources.skypilot_states import ADVICE, STATES, exit_code, explain, is_live, job_state


@pytest.fixture(scope="module")
def real_statuses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bool]:
    """SkyPilot's own enum: status → terminal. In a process of its own: importing sky writes into HOME."""
    try:
        importlib.metadata.version("skypilot")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("skypilot is not installed: pip install -e '.[dev]'")
    script = (
        "import json; from sky.jobs.state import ManagedJobStatus as S;"
        "print(json.dumps({s.value: s.is_terminal() for s in S}))"
    )
    home = str(tmp_path_factory.mktemp("home"))
    done = subprocess.run(
        [sys.executable, "-c", script], env={"HOME": home, "PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
        cwd=Path(__file__).parents[2], check=True,
    )  # fmt: skip
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_the_real_enum_is_mapped_completely(real_statuses: dict[str, bool]) -> None:
    assert set(STATES) == set(real_statuses)
    for name, terminal in real_statuses.items():
        assert STATES[name].final == terminal, name
        assert is_live(name) == (not terminal and name != "CANCELLING"), name
        assert (name in ADVICE) == (terminal and name != "SUCCEEDED"), name


@pytest.mark.parametrize(
    ("status", "reason", "state"),
    [
        ("FAILED", "Job exited with exit code 65 (user program failure). See logs", JobState.REFUSED),
        ("FAILED", "Job exited with exit code 69 (user program failure)", JobState.FAILED),
        ("FAILED", "Job exited with exit code 1 (user program failure)", JobState.FAILED),
        ("FAILED", "Job exited with exit codes [65]", JobState.REFUSED),
        ("FAILED", None, JobState.FAILED),
        ("FAILED_SETUP", "Setup failed with exit code 75", JobState.REFUSED),
        ("FAILED_CONTROLLER", None, JobState.FAILED),
        ("SOMETHING_NEW", None, JobState.RUNNING),
    ],
)
def test_states_that_depend_on_more_than_the_status(status: str, reason: str | None, state: JobState) -> None:
    assert job_state(status, reason) is state


@pytest.mark.parametrize("text", ["", None, "Cluster preempted", "pid 65 was killed", "exit 65"])
def test_no_exit_code_is_read_into_other_words(text: str | None) -> None:
    assert exit_code(text) is None


@pytest.mark.parametrize("status", ADVICE)
def test_a_bad_end_names_the_job_the_log_and_a_way_out(status: str) -> None:
    text = explain(status, 12, "Reason\n  of the server")
    assert "managed job 12" in text and status in text and "Reason of the server" in text
    assert "sky jobs logs" in text and "12`" in text


def test_a_lake_that_refuses_the_node_is_told() -> None:
    assert "write access to EMBED_LAKE" in explain("FAILED", 1, "Job exited with exit code 69 (user program failure)")


def test_leaked_resources_are_told() -> None:
    assert "MAY STILL RUN AND BILL" in explain("FAILED_CONTROLLER", 1, None)
