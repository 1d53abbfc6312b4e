"""The sensor that tells of red checks, on a real instance, with a webhook on loopback."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from embed_assets import RedCheck, build_check_alert_sensor
from embed_assets.graph import alerts
from tests.kits import pipelines as kit
from tests.kits.webhook import Webhook

SHARDS = dg.AssetKey(["p", "embedding_shards"])
PIPELINE = kit.pipeline([kit.dataset("nowhere.jsonl")])


@pytest.fixture(params=["on disk", "in memory"])
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    if request.param == "in memory":
        with dg.DagsterInstance.ephemeral() as found:
            yield found
    else:
        with dg.DagsterInstance.local_temp(str(tmp_path)) as found:
            yield found


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "SETTLED_SECONDS", -60.0)


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    with Webhook() as found:
        monkeypatch.setenv("EMBED_ALERT_WEBHOOK", found.url)
        yield found


class Ticks:
    """The daemon's part: it keeps the cursor, unless the tick has failed."""

    def __init__(self, instance: dg.DagsterInstance, **options: Any) -> None:
        self.instance, self.cursor = instance, None
        self.sensor = build_check_alert_sensor([PIPELINE], **options)

    def tick(self) -> str:
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor) as context:
            done = self.sensor.evaluate_tick(context)
        self.cursor = done.cursor
        assert not done.run_requests
        return done.skip_message or ""


def checked(instance: dg.DagsterInstance, passed: bool, partition: str = "d-00000", key: dg.AssetKey = SHARDS) -> None:
    """A check in a run of its own."""

    @dg.op
    def check(context: dg.OpExecutionContext) -> None:
        evaluation = dg.AssetCheckEvaluation(
            asset_key=key,
            check_name="same_embedding_space",
            passed=passed,
            partition=partition,
            description="cosine 0.3",
        )
        context.log_event(evaluation)

    @dg.job
    def checks() -> None:
        check()

    assert checks.execute_in_process(instance=instance).success


def test_each_red_check_is_told_once(instance: dg.DagsterInstance, webhook: Webhook) -> None:
    checked(instance, False, "d-00001")  # before it was turned on
    ticks = Ticks(instance)
    assert ticks.tick() == "turned on: red checks from now on are told"
    assert ticks.tick() == "no red check"
    checked(instance, True, "d-00000")
    checked(instance, False, "d-00002")
    checked(instance, False, "x", dg.AssetKey("somebody_elses"))
    assert ticks.tick() == "1 red checks told"
    (alert,) = webhook.posted
    assert (alert["pipeline"], alert["asset"], alert["partition"]) == ("p", "p/embedding_shards", "d-00002")
    assert alert["text"] == "p/embedding_shards d-00002: check same_embedding_space failed: cosine 0.3"
    assert instance.get_run_by_id(alert["run_id"]) is not None and alert["at"].endswith("+00:00")
    assert ticks.tick() == "no red check"
    checked(instance, False, "d-00002")  # red again: another event
    ticks.tick()
    assert webhook.partitions == ["d-00002", "d-00002"]
    assert webhook.posted[0]["id"] < webhook.posted[1]["id"]


def test_an_alert_that_was_not_taken_is_told_again_and_in_order(instance: dg.DagsterInstance, webhook: Webhook) -> None:
    ticks = Ticks(instance)
    ticks.tick()
    for stride in range(3):
        checked(instance, False, f"d-0000{stride}")
    webhook.answers = [200, 503, 500]
    assert (
        ticks.tick()
        == "1 red checks told, the next could not be: the webhook of EMBED_ALERT_WEBHOOK did not take the alert: it answered 503"
    )
    with pytest.raises(Exception, match="did not take the alert: it answered 500"):
        ticks.tick()
    assert ticks.tick() == "2 red checks told"
    assert webhook.partitions == ["d-00000", "d-00001", "d-00002"]


def test_a_tick_is_bounded(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[RedCheck] = []
    ticks = Ticks(instance, notify=told.append)
    ticks.tick()
    for stride in range(3):
        checked(instance, False, f"d-0000{stride}")
    monkeypatch.setattr(alerts, "TOLD_PER_TICK", 2)
    assert ticks.tick() == "2 red checks told; more at the next tick"
    assert ticks.tick() == "1 red checks told"
    monkeypatch.setattr(alerts, "READ_PER_TICK", 1)
    checked(instance, True)
    checked(instance, False, "d-00003")
    assert (ticks.tick(), ticks.tick()) == ("no red check", "1 red checks told")
    assert [red.partition for red in told] == [f"d-0000{stride}" for stride in range(4)]


def test_an_event_of_this_moment_waits(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[RedCheck] = []
    ticks = Ticks(instance, notify=told.append)
    ticks.tick()
    checked(instance, False)
    monkeypatch.setattr(alerts, "SETTLED_SECONDS", 3600.0)
    assert ticks.tick() == "no red check" and not told
    monkeypatch.setattr(alerts, "SETTLED_SECONDS", -60.0)
    assert ticks.tick() == "1 red checks told"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (None, "EMBED_ALERT_WEBHOOK is not set: give the sensor a webhook's URL there, or `notify`"),
        ("file:///etc/s3cret", "EMBED_ALERT_WEBHOOK is not an http:// or https:// URL"),
        ("http://127.0.0.1:9/s3cret", "did not take the alert: ConnectionRefusedError"),
        ("http://s3cret:99999/", "did not take the alert: "),
    ],
)
def test_a_webhook_that_cannot_be_used_keeps_its_secret(
    url: str | None, why: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with dg.DagsterInstance.ephemeral() as instance:
        monkeypatch.setenv("EMBED_ALERT_WEBHOOK", "http://127.0.0.1:9")
        ticks = Ticks(instance)
        ticks.tick()
        checked(instance, False)
        monkeypatch.setenv("EMBED_ALERT_WEBHOOK", url or "")
        with pytest.raises(Exception) as raised:
            ticks.tick()
    seen: BaseException | None = raised.value
    words = []
    while seen is not None:
        words.append(str(seen))
        seen = seen.__cause__ or seen.__context__
    assert any(why in word for word in words)
    assert not any("s3cret" in word for word in words) and "s3cret" not in caplog.text
