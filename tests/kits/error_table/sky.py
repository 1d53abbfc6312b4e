"""Jobs on SkyPilot, on a server in memory."""

from collections.abc import Callable, Iterator
from typing import Any

from resources.skypilot.client import SkyClient
from resources.skypilot.compute import SkyPilotCompute
from resources.skypilot.settings import SkyPilotFields
from tests.kits.compute.fake_sky import ApiServerAuthenticationError, FakeSky
from tests.kits.compute.in_process import InProcess, InProcessCompute
from tests.kits.error_table.registry import provokes
from tests.kits.error_table.scene import Scene
from tests.kits.graph_bench import SHARDS

Job = dict[str, Any]


class Ticking:
    """A clock that goes on by so many seconds whenever it is looked at."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 1_000_000.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


class Server(FakeSky):
    """Does to each job what the provocation says, whenever the queue is asked for."""

    def __init__(self, step: float, does: Callable[["Server", Job], object]) -> None:
        super().__init__(Ticking(step))  # type: ignore[arg-type]
        self.does = does

    def queue_v2(self, **asked: Any) -> Any:
        for job in list(self.rows):
            self.does(self, job)
        return super().queue_v2(**asked)


def server(
    scene: Scene, does: Callable[[Server, Job], object] = lambda *_: None, step: float = 1.0, **settings: Any
) -> Server:
    """Runs of the scene have their jobs on this server."""
    made = Server(step, does)
    fields = SkyPilotFields(**{"poll_seconds": 0.01, "call_timeout_seconds": 5, **settings})

    def backend() -> SkyPilotCompute:
        client = SkyClient("http://host:1/sky", fields.call_timeout_seconds, made)
        config = {"run": "true", "envs": {"EMBED_JOB": None}}
        return SkyPilotCompute(client, config, fields, clock=made.clock, sleep=lambda _: None)

    scene.patch.setattr(InProcessCompute, "backend", backend)
    assert scene.ready
    return made


def ending(status: str, reason: str | None = None) -> Callable[[Server, Job], object]:
    return lambda _, job: job.update(status=status, failure_reason=reason)


@provokes("the job was cancelled outside of this run")
def cancelled_by_hand(scene: Scene) -> Iterator[str]:
    server(scene, ending("CANCELLED"))
    yield scene.told(SHARDS)
    scene.patch.setattr(InProcessCompute, "backend", InProcess)
    scene.made(SHARDS)


@provokes("the job says it succeeded, but there is no manifest")
def written_elsewhere(scene: Scene) -> Iterator[str]:
    server(scene, ending("SUCCEEDED"))
    yield scene.told(SHARDS)


@provokes("the compute backend does not answer")
def the_api_server_is_away(scene: Scene) -> Iterator[str]:
    looks = iter(range(100))

    def does(sky: Server, job: Job) -> None:
        look = next(looks)
        if look == 1:
            sky.error = ConnectionError("Could not connect to SkyPilot API server")
        elif look > 3:
            job["status"] = "CANCELLED"

    made = server(scene, does)
    asked = made._ask

    def ask(what: str) -> None:
        error, made.error = made.error, None
        asked(what)
        if error is not None:
            raise error

    scene.patch.setattr(made, "_ask", ask)
    yield scene.told(SHARDS)


@provokes("sky api info")
def another_user(scene: Scene) -> Iterator[str]:
    server(scene).error = ApiServerAuthenticationError("401 Unauthorized")
    yield scene.told(SHARDS)


@provokes("SkyPilot rejects the launch")
def an_impossible_request(scene: Scene) -> Iterator[str]:
    server(scene).launch_error = ValueError("Invalid region 'eu-nowhere-1'")
    yield scene.told(SHARDS)


@provokes("SkyPilot could not launch")
def a_launch_that_fails(scene: Scene) -> Iterator[str]:
    server(scene).launch_error = RuntimeError("the controller has no disk left")
    yield scene.told(SHARDS)


@provokes("has not started to run within …. It was cancelled, as EMBED_SKY_CANCEL_WHEN_LATE says")
def no_capacity(scene: Scene) -> Iterator[str]:
    server(scene, cancel_when_late=True, step=600.0)
    yield scene.told(SHARDS)


@provokes("has not started to run within …. It goes on waiting")
def no_capacity_for_long(scene: Scene) -> Iterator[str]:
    looks = iter(range(1000))
    late = ending("FAILED_NO_RESOURCE")
    server(scene, lambda sky, job: next(looks) > 20 and late(sky, job), step=600.0)
    yield scene.told(SHARDS)


@provokes("the API server no longer knows managed job")
def a_queue_that_is_lost(scene: Scene) -> Iterator[str]:
    server(scene, lambda sky, job: sky.rows.remove(job), step=60.0)
    yield scene.told(SHARDS)


@provokes("in flight in the API server")
def a_launch_of_an_earlier_run(scene: Scene) -> Iterator[str]:
    made = server(scene, ending("CANCELLED"))
    in_flight = [made.pending_launch(f"embed-{scene.ready.job(0).name}")]
    scene.patch.setattr(made, "api_status", lambda: [in_flight.pop()] if in_flight else [])
    yield scene.told(SHARDS)


def end_of(scene: Scene, status: str, exit_code: str | None) -> str:
    """What a run says of a job that ends with this status."""
    server(scene, ending(status, exit_code and f"Job failed with exit code {exit_code}"))
    return scene.told(SHARDS)


@provokes("managed job … ended as FAILED_")
def ended_badly(scene: Scene) -> Iterator[str]:
    yield end_of(scene, "FAILED_SETUP", None)
