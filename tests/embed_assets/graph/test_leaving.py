"""What becomes of open jobs when a run ends early."""

from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError

from embed_assets.graph.dagster_events import RunLife
from embed_assets.graph.embedding_shards import _leave

CANCELING, STARTED = dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.STARTED


def leave(statuses: list[Any], outlives_driver: bool) -> list[list[str]]:
    """The cancellations of a run whose status is asked for again and again; an exception in the list is raised."""
    answers = iter(statuses)

    def get_run_by_id(_: str) -> Any:
        answer = next(answers)
        if isinstance(answer, BaseException):
            raise answer
        return SimpleNamespace(status=answer)

    cancelled: list[list[str]] = []
    log = SimpleNamespace(info=lambda _: None, warning=lambda _: None, error=lambda _: None)
    context: Any = SimpleNamespace(run_id="r", log=log, instance=SimpleNamespace(get_run_by_id=get_run_by_id))
    run: Any = SimpleNamespace(context=context, tell=lambda text, *, warning=False: None)
    driver: Any = SimpleNamespace(open_handles=["job"], cancel=lambda: cancelled.append(["job"]))
    compute: Any = SimpleNamespace(outlives_driver=outlives_driver)
    _leave(run, RunLife(context), driver, compute)
    return cancelled


@pytest.mark.parametrize("outlives_driver", [True, False])
def test_a_signal_in_the_middle_does_not_keep_jobs_from_being_cancelled(outlives_driver: bool) -> None:
    late = DagsterExecutionInterruptedError()
    assert leave([late, KeyboardInterrupt(), CANCELING], outlives_driver) == [["job"]]


def test_a_death_that_is_no_cancellation_leaves_remote_jobs_and_ends_local_ones() -> None:
    assert leave([STARTED], outlives_driver=True) == []
    assert leave([STARTED], outlives_driver=False) == [["job"]]
