"""SkyPilot's SDK as the backend needs it: typed, every call with a deadline, errors sorted by what to do.

`sky` is imported at the first call: it takes seconds and 100 MB, and a deployment without SkyPilot never pays.
"""

import copy
import importlib
import importlib.metadata
import io
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NewType, TypeVar
from urllib.parse import urlsplit

from embed_worker.extras import sentence
from resources.compute import BackendBroken, ComputeUnavailable, tail_of
from resources.skypilot.cost import Machine
from resources.skypilot.deadlines import DeadlinePassed, Deadlines
from resources.skypilot.errors import ANSI, NoController, Unanswered, has_login, launch_error, sorted_error
from resources.skypilot.states import status_name

T = TypeVar("T")
Record = dict[str, Any]
RequestId = NewType("RequestId", str)

FIELDS = [
    *("job_id", "task_id", "job_name", "status", "recovery_count", "submitted_at", "start_at", "end_at"),
    *("job_duration", "last_recovered_at", "cluster_resources_full", "cloud", "region", "zone", "infra"),
    *("accelerators", "failure_reason", "details", "pool"),
]
"""Named, because the default set lacks most of them and all of them include the task's YAML."""

TERMINAL_NOTICE = "already in terminal state"
LOG_TRIES, LOG_PAUSE = 4, 3.0


class SkyClient:
    """One API server. Calls may raise ComputeUnavailable; before the first answer also BackendBroken."""

    def __init__(self, endpoint: str | None, seconds: float, sky: Any = None) -> None:
        self._endpoint, self._seconds, self._module = endpoint, seconds, sky
        # Apart: launches or prices that hang hold up no poll.
        self._deadlines, self._launches, self._catalog = Deadlines(), Deadlines(), Deadlines()
        self._answered = False

    # -- jobs ------------------------------------------------------------------------------------

    def queue(
        self, *, job_ids: Sequence[int] | None = None, name_match: str | None = None, live_only: bool = False
    ) -> list[Record]:
        """Managed jobs of all users: a run that is re-executed in another container is another user to SkyPilot."""
        if job_ids is not None and not job_ids:
            return []

        def ask(refresh: bool) -> Any:
            jobs = self.sky.jobs
            ids = None if job_ids is None else list(job_ids)
            return self.sky.get(
                jobs.queue_v2(
                    refresh=refresh,
                    skip_finished=live_only,
                    all_users=True,
                    job_ids=ids,
                    name_match=name_match,
                    fields=FIELDS,
                )
            )

        try:
            answer = self._ask("jobs queue", lambda: ask(refresh=False))
        except NoController:
            if job_ids is None:
                return []
            try:  # its machine sleeps; wake it to hear how our jobs ended
                answer = self._ask("jobs queue", lambda: ask(refresh=True), 5 * self._seconds)
            except NoController as error:
                raise ComputeUnavailable(str(error)) from error
        records = answer[0] if isinstance(answer, tuple) else answer
        return [{**(found := dict(record)), "status": status_name(found["status"])} for record in records]

    def launches_in_flight(self) -> dict[str, str | None]:
        """Launch requests that the server has accepted and not finished: id → job name, None where it is hidden.

        The server shows a request's content to its own user only.
        """
        found: dict[str, str | None] = {}
        for request in self._ask("API requests", lambda: self.sky.api_status()):
            if not str(getattr(request, "name", "")).endswith("jobs.launch"):
                continue
            try:
                found[str(request.request_id)] = str(json.loads(request.request_body)["name"])
            except (TypeError, ValueError, KeyError):
                found[str(request.request_id)] = None
        return found

    def launch(self, config: Mapping[str, Any], name: str, pool: str | None) -> RequestId:
        """Asks for a managed job; `launched` tells which. A lost answer does not mean that no job was made."""

        def ask() -> Any:
            task = self.sky.Task.from_yaml_config(copy.deepcopy(dict(config)))  # SkyPilot takes it apart
            return self.sky.jobs.launch(task, name=name, pool=pool, job_group=None)

        return RequestId(str(self._launching("jobs launch", ask, 2 * self._seconds)))

    def launched(self, request: RequestId) -> int:
        """The job's id, once the server has made it."""
        job_ids, _ = self._launching("jobs launch", lambda: self.sky.get(request), 5 * self._seconds)
        return int(job_ids[0])

    def cancel(self, job_ids: Sequence[int]) -> None:
        ids = list(job_ids)
        try:
            self._ask("jobs cancel", lambda: self.sky.get(self.sky.jobs.cancel(job_ids=ids)))
        except NoController:
            return

    def logs(self, job_id: int, lines: int, controller: bool) -> str:
        """The end of a log. Just after a job's end SkyPilot may have nothing but a notice for some seconds."""
        text = ""
        for attempt in range(LOG_TRIES):
            if attempt:
                time.sleep(LOG_PAUSE)
            sink = io.StringIO()

            def ask(sink: io.StringIO = sink) -> None:
                self.sky.jobs.tail_logs(
                    job_id=job_id, follow=False, controller=controller, tail=lines, output_stream=sink
                )

            self._ask("jobs logs", ask)
            text = ANSI.sub("", sink.getvalue()).strip()
            if any(line.strip() and TERMINAL_NOTICE not in line for line in text.splitlines()):
                break
        return tail_of(text, lines)

    def hourly_price(self, machine: Machine) -> float:
        """From the catalog on this machine. Raises where SkyPilot knows no price."""

        def ask() -> float:
            place = "/".join(part for part in (machine.cloud.lower(), machine.region, machine.zone) if part)
            resources = self.sky.Resources(
                infra=place,
                instance_type=machine.instance_type,
                accelerators=dict(machine.accelerators) or None,
                use_spot=machine.spot,
            )
            return float(resources.get_cost(3600))

        return self._catalog.call(ask, self._seconds)

    def dashboard(self, job_id: int) -> str:
        """Link for people: no password that the endpoint may carry."""
        parts = urlsplit(self.endpoint)
        host = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{host}{parts.path.rstrip('/')}/dashboard/jobs/{job_id}"

    # -- pools -----------------------------------------------------------------------------------

    def pool_up(self, config: Mapping[str, Any], name: str) -> None:
        def ask() -> Any:
            from sky.serve.serve_utils import DEFAULT_UPDATE_MODE

            task = self.sky.Task.from_yaml_config(copy.deepcopy(dict(config)))
            return self.sky.get(self.sky.jobs.pool_apply(task, name, mode=DEFAULT_UPDATE_MODE))

        self._ask("pool apply", ask, 10 * self._seconds)

    def pool_status(self, name: str | None) -> list[Record]:
        names = None if name is None else [name]
        try:
            return [dict(r) for r in self._ask("pool status", lambda: self.sky.get(self.sky.jobs.pool_status(names)))]
        except NoController:
            return []

    def pool_down(self, name: str) -> None:
        self._ask("pool down", lambda: self.sky.get(self.sky.jobs.pool_down([name])), 10 * self._seconds)

    # -- how it is asked -------------------------------------------------------------------------

    @property
    def endpoint(self) -> str:
        """Of the API server that answers, whatever the settings say."""
        if self._endpoint is not None:
            return self._endpoint.rstrip("/")
        from sky.server import common

        return str(common.get_server_url())

    @property
    def server_is_here(self) -> bool:
        return urlsplit(self.endpoint).hostname in ("127.0.0.1", "localhost", "::1")

    @property
    def sky(self) -> Any:
        if self._module is None:
            self._module = import_sky(self._endpoint)
        return self._module

    def _ask(
        self, what: str, work: Callable[[], T], seconds: float | None = None, deadlines: Deadlines | None = None
    ) -> T:
        try:
            answer = (deadlines or self._deadlines).call(work, seconds or self._seconds)
        except (ComputeUnavailable, BackendBroken):
            raise
        except DeadlinePassed as error:
            raise ComputeUnavailable(f"sky {what}: {error}") from error
        except Exception as error:
            told = sorted_error(what, error, broken=not self._answered)
            raise told from (None if has_login(error) else error)
        self._answered = True
        return answer

    def _launching(self, what: str, work: Callable[[], T], seconds: float) -> T:
        """A launch that the server answered with an error has made no job; one without an answer may have."""
        try:
            return self._ask(what, work, seconds, self._launches)
        except Unanswered as error:
            if (sorted_out := launch_error(error)) is error:
                raise
            raise sorted_out from error


def import_sky(endpoint: str | None) -> Any:
    """SkyPilot's module, asking this server. Raises BackendBroken where that cannot be."""
    try:
        importlib.metadata.version("skypilot")
    except importlib.metadata.PackageNotFoundError as error:
        raise BackendBroken(sentence("skypilot", "skypilot")) from error
    if endpoint is not None:  # SkyPilot reads it once and keeps it for the life of the process
        os.environ["SKYPILOT_API_SERVER_ENDPOINT"] = endpoint
        os.environ["SKYPILOT_DISABLE_LOCAL_API_SERVER"] = "1"
    sky = importlib.import_module("sky")
    if endpoint is not None:
        known = str(importlib.import_module("sky.server.common").get_server_url())
        if known.rstrip("/") != endpoint.rstrip("/"):
            raise BackendBroken(f"this process talks to {urlsplit(known).hostname} already; restart it for the other")
    return sky
