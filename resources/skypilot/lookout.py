"""What the API server has under our names: launches in flight, and live jobs."""

from collections.abc import Callable, Container

from resources.skypilot.client import Record, SkyClient
from resources.skypilot.states import is_live

SETTLE_SECONDS = 120.0
"""A launch in flight whose name the server hides, and that outlasts this, is another user's."""


class Lookout:
    """Remembers the last look. Launches are looked at first: one that ends between the two looks is in the queue."""

    def __init__(self, client: SkyClient, prefix: str, clock: Callable[[], float]) -> None:
        self._client, self._prefix, self._clock = client, prefix, clock
        self._since: dict[str, float] = {}
        self.in_flight: dict[str, str | None] = {}
        """Request → name of its job, None where it is hidden. Any of them may be an earlier run's."""
        self.live: dict[str, Record] = {}
        """Name → its oldest live job."""
        self.at = float("-inf")
        """When the jobs were looked at."""

    def launches(self, ours: Container[str]) -> None:
        """`ours`: names that this process itself is launching just now."""
        found, now = self._client.launches_in_flight(), self._clock()
        self._since = {request: self._since.get(request, now) for request in found}
        self.in_flight = {
            request: name
            for request, name in found.items()
            if (name not in ours if name is not None else now - self._since[request] < SETTLE_SECONDS)
        }

    def jobs(self, ended: Container[int]) -> None:
        records = self._client.queue(name_match=self._prefix, live_only=True)
        live: dict[str, Record] = {}
        for record in sorted(records, key=lambda record: int(record["job_id"]), reverse=True):
            if is_live(record["status"]) and int(record["job_id"]) not in ended:
                live[record["job_name"]] = record  # the oldest, should there be several
        self.live, self.at = live, self._clock()

    def maybe(self, names: Container[str]) -> frozenset[str]:
        """Launches in flight that may be of one of these names."""
        return frozenset(request for request, name in self.in_flight.items() if name is None or name in names)

    def doubt(self, requests: frozenset[str]) -> str:
        """Why it is not known yet whether these launches made a job of ours; empty once it is."""
        left = requests & self.in_flight.keys()
        if named := sorted(name for request in left if (name := self.in_flight[request]) is not None):
            return f"launches of {len(named)} jobs are in flight in the API server already, such as {named[0]}"
        return f"{len(left)} launches in flight in the API server may be an earlier run's" if left else ""
