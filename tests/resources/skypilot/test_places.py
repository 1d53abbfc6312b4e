"""Where jobs may run and on what: derived from the lake, and refused before anything is launched."""

from types import SimpleNamespace
from typing import Any

import pytest

from resources.compute import BackendBroken
from resources.skypilot.places import advice, check_accelerators, check_engine, cloud_of
from resources.skypilot.prices import wanted
from resources.skypilot.resource import TASK_FILE, SkyPilotResource
from resources.skypilot.settings import SkyPilotFields, SkyPilotSettings
from resources.skypilot.task import Overrides, load_task, with_overrides
from tests.kits.compute.fake_sky import SkyBench


def job(**engine: Any) -> Any:
    return SimpleNamespace(pipeline="p", spec=SimpleNamespace(engine=engine))


@pytest.fixture(autouse=True)
def no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("lake", "cloud"),
    [
        ("s3://b/lake", "aws"), ("gs://b/lake", "gcp"), ("az://c/lake", "azure"), ("abfss://c/lake", "azure"),
        ("/shared/lake", None), ("", None), ("file:///x", None),
    ],
)  # fmt: skip
def test_jobs_run_in_the_lakes_cloud(lake: str, cloud: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cloud_of(lake) == cloud
    monkeypatch.setenv("EMBED_LAKE", lake)
    settings = SkyPilotSettings()
    assert settings.beside == settings.priced_at == cloud
    resources = with_overrides(load_task(None, TASK_FILE), settings.overrides())["resources"]
    assert resources.get("infra") == cloud


def test_a_store_that_speaks_like_s3_is_in_no_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://x.r2.cloudflarestorage.com")
    assert cloud_of("s3://b/lake") is None


@pytest.mark.parametrize(("infra", "found"), [("gcp/us-central1", "gcp/us-central1"), ("*", None)])
def test_what_the_deployment_says_counts(infra: str, found: str | None) -> None:
    settings = SkyPilotFields(lake="s3://b/lake", infra=infra)
    resources = with_overrides(load_task(None, TASK_FILE), settings.overrides())["resources"]
    assert resources.get("infra") == found


def test_a_task_files_own_place_is_kept() -> None:
    config = {"resources": {"ordered": [{"infra": "gcp", "accelerators": "L4:1"}, {"infra": "aws"}]}}
    assert with_overrides(config, Overrides(beside="azure"))["resources"] == config["resources"]


@pytest.mark.parametrize("name", ["MI300X:8", "tpu-v6e-8", "Trainium2:16", "Inferentia:1", "Gaudi3:1"])
def test_what_the_worker_cannot_use_is_refused_before_a_launch(name: str) -> None:
    config = with_overrides(load_task(None, TASK_FILE), Overrides(accelerators=f"L4:1, {name}"))
    with pytest.raises(BackendBroken, match=f"not on {name.partition(':')[0]}.*EMBED_SKY_ACCELERATORS"):
        check_accelerators(config)
    with (
        pytest.raises(BackendBroken),
        SkyPilotResource(accelerators=name).session(),
    ):
        pass


@pytest.mark.parametrize("own", ["L4:1", "A100:4, L4:2", "none"])
def test_an_engine_that_spans_more_gpus_than_a_machine_has_is_refused_before_a_launch(own: str) -> None:
    config = with_overrides(load_task(None, TASK_FILE), Overrides(accelerators=own))
    with pytest.raises(BackendBroken, match=r"p: embedding.engine spans 4 GPUs .*EMBED_SKY_ACCELERATORS=L4:4"):
        check_engine(config, job(tensor_parallel_size=2, pipeline_parallel_size=2))
    check_engine(config, job())
    check_engine(with_overrides(config, Overrides(accelerators="L4:4, H100:8")), job(tensor_parallel_size=4))


def test_such_a_job_is_never_sent() -> None:
    bench = SkyBench()
    bench.compute._config = {**bench.compute._config, "resources": {"accelerators": "L4:1"}}
    with pytest.raises(BackendBroken, match="spans 2 GPUs"):
        bench.compute.submit("a", job(tensor_parallel_size=2), "u")
    assert bench.sky.calls == []


def test_what_a_person_should_know_before_many_jobs_are_launched() -> None:
    beside = with_overrides(load_task(None, TASK_FILE), Overrides(beside="aws"))
    anywhere = load_task(None, TASK_FILE)

    def told(config: Any, jobs: int = 1, here: bool = False, pool: bool = False, lake: str = "s3://b/lake") -> str:
        return "\n".join(advice(config, lake, jobs, local_server=here, pool=pool))

    assert told(beside) == told(anywhere, lake="/shared") == ""
    assert "every enabled cloud" in told(anywhere) and "EMBED_SKY_INFRA=aws keeps them beside it" in told(anywhere)
    assert "jobs may run on gcp, the lake is in aws" in told(with_overrides(anywhere, Overrides(infra="gcp")))
    assert "500 jobs are to be launched" in told(beside, 500) and "runs 200" in told(beside, 500)
    assert told(beside, 150) == "" and "jobs.bucket" in told(beside, here=True)
    assert told(anywhere, 500, here=True, pool=True) == ""


def test_the_price_of_a_machine_is_bounded() -> None:
    config = with_overrides(load_task(None, TASK_FILE), SkyPilotFields(max_hourly_cost=1.5).overrides())
    assert config["resources"]["max_hourly_cost"] == 1.5
    assert next(one.accelerator for one in wanted(SkyPilotFields())) == "L4"


def test_a_job_that_runs_for_too_long_is_cancelled_and_reported() -> None:
    bench = SkyBench(max_job_hours=2)
    handle = bench.launch("a")
    bench.sky.run(bench.sky.rows[0])
    assert bench.poll(handle, after=7000).state == "running"
    bench.sky.error = ConnectionError("reset")
    with pytest.raises(Exception, match="reset"):
        bench.poll(handle, after=3000)
    bench.sky.error = None
    status = bench.poll(handle)
    assert status.state == "refused" and bench.sky.cancelled == [[1]]
    assert "has run for 2.8 h and was cancelled (EMBED_SKY_MAX_JOB_HOURS=2)" in status.detail
    assert "longer than EMBED_SKY_MAX_JOB_HOURS" in status.kind
