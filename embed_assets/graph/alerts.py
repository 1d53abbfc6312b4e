"""Tells somebody of red checks: they fail no run, so Dagster's own run-failure sensors do not see them."""

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import dagster as dg
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

from embed_assets.graph.public import asset_keys
from embed_assets.spec.given import Given, as_pipeline

WEBHOOK = "EMBED_ALERT_WEBHOOK"
TIMEOUT_SECONDS = 10.0
TOLD_PER_TICK, READ_PER_TICK = 50, 2_000
SETTLED_SECONDS = 5.0
"""PostgreSQL numbers an event before it is there to be read: one with a smaller number may come a moment later."""


@dataclass(frozen=True)
class RedCheck:
    """A check that was made and did not pass."""

    id: int
    """Of Dagster's event; the same alert has the same."""
    pipeline: str
    asset: str
    partition: str | None
    check: str
    description: str
    run_id: str
    at: str
    """UTC, ISO 8601."""

    @property
    def text(self) -> str:
        """In a sentence."""
        where = f"{self.asset} {self.partition}" if self.partition else self.asset
        return f"{where}: check {self.check} failed: {self.description}"


def build_check_alert_sensor(
    pipelines: Iterable[Given],
    notify: Callable[[RedCheck], object] | None = None,
    *,
    name: str = "embed_check_alerts",
    webhook_env: str = WEBHOOK,
    minimum_interval_seconds: int = 30,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.STOPPED,
) -> dg.SensorDefinition:
    """A sensor that tells of each red check of the pipelines' assets, once, from when it is turned on.

    `notify` is called with each; without it, each is posted as JSON to the URL in the environment variable
    `webhook_env`. One that cannot be told is tried again at the next tick, and those after it wait.
    """
    of_key = {key: one.name for one in map(as_pipeline, pipelines) for key in asset_keys(one).values()}

    @dg.sensor(
        name=name,
        minimum_interval_seconds=minimum_interval_seconds,
        default_status=default_status,
        description="Tells of red checks of " + ", ".join(dict.fromkeys(of_key.values())) + ".",
    )
    def check_alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        tell = notify or _webhook(webhook_env)
        if context.cursor is None:
            newest = _evaluations(context.instance, None, 1, ascending=False)
            context.update_cursor(str(newest[0].storage_id if newest else 0))
            return dg.SkipReason("turned on: red checks from now on are told")
        told = 0
        for record in _settled(_evaluations(context.instance, int(context.cursor), READ_PER_TICK, ascending=True)):
            red = _red(record, of_key)
            if red is not None and told == TOLD_PER_TICK:
                return dg.SkipReason(f"{told} red checks told; more at the next tick")
            if red is not None:
                try:
                    tell(red)
                except Exception as error:
                    if not told:
                        raise
                    return dg.SkipReason(f"{told} red checks told, the next could not be: {error}")
                told += 1
            context.update_cursor(str(record.storage_id))
        return dg.SkipReason(f"{told} red checks told" if told else "no red check")

    return check_alerts


def _evaluations(
    instance: dg.DagsterInstance, after: int | None, limit: int, *, ascending: bool
) -> list[dg.EventLogRecord]:
    """Evaluations of checks by the number of their event, whatever the asset."""
    asked = dg.EventRecordsFilter(dg.DagsterEventType.ASSET_CHECK_EVALUATION, after_cursor=after)
    storage = instance.event_log_storage
    if isinstance(storage, SqlEventLogStorage):
        # SQLite's own way asks run by run; the events of checks stand in its index, as in PostgreSQL's only table.
        return list(SqlEventLogStorage.get_event_records(storage, asked, limit, ascending))
    return list(instance.get_event_records(asked, limit, ascending))


def _settled(records: list[dg.EventLogRecord]) -> Iterable[dg.EventLogRecord]:
    """Those before the first that is a moment old only."""
    for record in records:
        if record.timestamp > time.time() - SETTLED_SECONDS:
            return
        yield record


def _red(record: dg.EventLogRecord, of_key: dict[dg.AssetKey, str]) -> RedCheck | None:
    """The failed check of one of the assets; None for any other evaluation."""
    event = record.event_log_entry.dagster_event
    assert event is not None
    made = event.asset_check_evaluation_data
    if made.passed or made.asset_key not in of_key:
        return None
    return RedCheck(
        id=record.storage_id,
        pipeline=of_key[made.asset_key],
        asset=made.asset_key.to_user_string(),
        partition=made.partition,
        check=made.check_name,
        description=made.description or "",
        run_id=record.event_log_entry.run_id,
        at=datetime.fromtimestamp(record.timestamp, UTC).isoformat(timespec="seconds"),
    )


def _webhook(variable: str) -> Callable[[RedCheck], None]:
    """Posts to the URL in the environment. The URL is a secret: no error repeats it."""
    url = os.environ.get(variable, "")
    if not url:
        raise RuntimeError(f"{variable} is not set: give the sensor a webhook's URL there, or `notify`")
    if urlsplit(url).scheme not in ("http", "https"):
        raise RuntimeError(f"{variable} is not an http:// or https:// URL")

    def post(red: RedCheck) -> None:
        data = json.dumps({"text": red.text, **asdict(red)}).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310  (looked at above)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):  # noqa: S310
                return
        except urllib.error.HTTPError as error:
            why = f"it answered {error.code}"
        except Exception as error:
            why = type(getattr(error, "reason", None) or error).__name__
        raise RuntimeError(f"the webhook of {variable} did not take the alert: {why}")

    return post
