"""Why a run failed, as its events say."""

import os

import dagster as dg


def reason_of(instance: dg.DagsterInstance, run_id: str) -> str:
    """Of the step that failed."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        if entry.dagster_event is not None:
            data = entry.dagster_event.step_failure_data
            failure = data.user_failure_data
            if failure is not None and failure.description:
                return failure.description
            if data.error is not None:
                return (data.error.cause or data.error).message.strip()
    return f"see run {run_id} in {os.environ['DAGSTER_HOME']}"
