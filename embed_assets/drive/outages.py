"""Questions that the backend or the lake does not answer: told once, asked again with growing pauses, never given up.

An answer that is not there says nothing about any job or shard.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, stop_after_delay, wait_fixed

from embed_assets.drive.events import Tell
from embed_worker.lake.errors import StoreUnavailable
from resources.compute import ComputeUnavailable

T = TypeVar("T")

MAX_BACKOFF = 60.0
UNAVAILABLE = (ComputeUnavailable, StoreUnavailable)


class Stopped(BaseException):
    """The run is not to go on; the caller decides what becomes of the open jobs."""


def patiently(ask: Callable[[], T], sleep: Callable[[float], None]) -> T:
    """For a caller that is about to end: asks again for two minutes and a half. Raises ComputeUnavailable then."""
    return Retrying(
        retry=retry_if_exception_type(ComputeUnavailable), stop=stop_after_attempt(70) | stop_after_delay(150),
        wait=wait_fixed(2), sleep=sleep, reraise=True,
    )(ask)  # fmt: skip


@dataclass
class _Outage:
    who: str
    since: float
    backoff: float = 0.0
    ask_again_at: float = 0.0


class Outages:
    """By what is asked: launching may fail while polling works."""

    def __init__(
        self,
        poll_seconds: float,
        tell: Tell,
        alive: Callable[[], bool],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._poll_seconds, self._tell, self._alive, self._clock, self._sleep = poll_seconds, tell, alive, clock, sleep
        self._outages: dict[str, _Outage] = {}

    def unanswered(self, asked: str, error: Exception) -> None:
        who = "the compute backend" if isinstance(error, ComputeUnavailable) else "the lake"
        outage = self._outages.get(asked)
        if outage is None or outage.who != who:
            outage = self._outages[asked] = _Outage(who, self._clock())
            self._tell(f"{who} does not answer ({error}); jobs go on, asking again", warning=True)
        outage.backoff = min(max(2 * outage.backoff, self._poll_seconds, 1.0), MAX_BACKOFF)
        outage.ask_again_at = self._clock() + outage.backoff

    def answered(self, asked: str) -> None:
        if (outage := self._outages.pop(asked, None)) is not None:
            self._tell(f"{outage.who} answers again after {self._clock() - outage.since:.0f} s")

    def backoff(self, asked: str) -> float:
        return self._outages[asked].backoff if asked in self._outages else 0.0

    def not_yet(self, asked: str) -> bool:
        """Whether it is too early to ask again."""
        return asked in self._outages and self._clock() < self._outages[asked].ask_again_at

    def until_answered(self, asked: str, ask: Callable[[], T]) -> T:
        """Raises Stopped when `alive` says so."""
        while True:
            try:
                answer = ask()
            except UNAVAILABLE as error:
                self.unanswered(asked, error)
                self._sleep(self.backoff(asked))
                if not self._alive():
                    raise Stopped from error
            else:
                self.answered(asked)
                return answer
