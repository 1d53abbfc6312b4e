"""Every status of a managed job means something to us, and every bad end says what to do."""

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from resources.compute import JobState
from resources.skypilot.states import ADVICE, STATES, exit_code, explain, is_live, job_state
from tests.kits import ROOT


@pytest.fixture(scope="module")
def sky_script(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Runs a script with the real SkyPilot, in a process of its own: importing sky writes into HOME."""
    try:
        importlib.metadata.version("skypilot")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("skypilot is not installed: pip install -e '.[dev]'")
    env = {"HOME": str(tmp_path_factory.mktemp("home")), "PATH": "/usr/bin:/bin"}

    def run(script: str) -> str:
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=ROOT, check=True)
        return done.stdout.splitlines()[-1]

    return run


@pytest.fixture(scope="module")
def real_statuses(sky_script: Callable[[str], str]) -> dict[str, bool]:
    """SkyPilot's own enum: status → terminal."""
    script = (
        "import json; from sky.jobs.state import ManagedJobStatus as S;"
        "print(json.dumps({s.value: s.is_terminal() for s in S}))"
    )
    return dict(json.loads(sky_script(script)))


@pytest.mark.slow
def test_the_real_enum_is_mapped_completely(real_statuses: dict[str, bool]) -> None:
    assert set(STATES) == set(real_statuses)
    for name, terminal in real_statuses.items():
        assert STATES[name].final == terminal, name
        assert is_live(name) == (not terminal and name != "CANCELLING"), name
        assert (name in ADVICE) == (terminal and name != "SUCCEEDED"), name


@pytest.mark.slow
def test_what_the_server_says_of_its_controller_reaches_us(sky_script: Callable[[str], str]) -> None:
    script = """
import json, pickle
from sky import exceptions as e
from sky.utils.status_lib import ClusterStatus as S
from resources.skypilot.errors import sorted_error
def told(status):
    error = pickle.loads(pickle.dumps(e.serialize_exception(e.ClusterNotUpError("words", cluster_status=status))))
    return type(sorted_error("queue", e.deserialize_exception(error), broken=False)).__name__
print(json.dumps({str(s and s.value): told(s) for s in [None, *S]}))"""
    told = json.loads(sky_script(script))
    assert told.pop("None") == told.pop("STOPPED") == "NoController"
    assert {"INIT", "UP"} <= set(told) and set(told.values()) == {"Unanswered"}


@pytest.mark.parametrize(
    ("status", "reason", "state"),
    [
        ("FAILED", "Job exited with exit code 65 (user program failure). See logs", JobState.REFUSED),
        ("FAILED", "Job exited with exit code 69 (user program failure)", JobState.FAILED),
        ("FAILED", "Job exited with exit code 1 (user program failure)", JobState.FAILED),
        ("FAILED", "Job exited with exit codes [65]", JobState.REFUSED),
        ("FAILED", None, JobState.FAILED),
        ("FAILED_SETUP", "Setup failed with exit code 65", JobState.FAILED),
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
