"""What becomes of open jobs when a run ends early."""

from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError

from embed_assets.graph.assets.shard_run import _leave
from embed_assets.graph.dagster_events import RunLife

CANCELING, STARTED = dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.STARTED


def leave(statuses: list[Any], outlives_driver: bool) -> tuple[int, str]:
    """What was cancelled, and what is told, of a run whose status is asked for again and again; an exception in the
    list is raised."""
    answers = iter(statuses)

    def get_run_by_id(_: str) -> Any:
        answer = next(answers)
        if isinstance(answer, BaseException):
            raise answer
        return SimpleNamespace(status=answer)

    cancelled: list[int] = []
    told: list[str] = []
    log = SimpleNamespace(info=lambda _: None, warning=lambda _: None, error=lambda _: None)
    context: Any = SimpleNamespace(
        run=SimpleNamespace(run_id="r"), log=log, instance=SimpleNamespace(get_run_by_id=get_run_by_id)
    )
    run: Any = SimpleNamespace(context=context, tell=lambda text, *, warning=False: told.append(text))
    driver: Any = SimpleNamespace(open_handles=["job"], cancel=lambda: cancelled.append(1) or 1)
    compute: Any = SimpleNamespace(outlives_driver=outlives_driver)
    _leave(run, RunLife(context), driver, compute)
    (text,) = told
    return sum(cancelled), text


KEPT = "what they have committed is kept"


@pytest.mark.parametrize("outlives_driver", [True, False])
def test_a_signal_in_the_middle_does_not_keep_jobs_from_being_cancelled(outlives_driver: bool) -> None:
    late = DagsterExecutionInterruptedError()
    found = leave([late, KeyboardInterrupt(), CANCELING], outlives_driver)
    assert found == (1, f"this run was cancelled: 1 jobs are stopped; {KEPT}")


def test_a_death_that_is_no_cancellation_leaves_remote_jobs_and_ends_local_ones() -> None:
    """And it is not told as one: nobody cancelled anything."""
    assert leave([STARTED], outlives_driver=True) == (0, "this run is going away; 1 jobs go on, re-execute to attach")
    stopped = leave([STARTED], outlives_driver=False)
    assert stopped == (1, f"this run's process is going away: 1 jobs are stopped; {KEPT}")
