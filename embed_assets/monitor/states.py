"""Where a partition is, by its manifest and the heartbeats beside it: the one rule of `status` and of the monitor.

All times are by the store's clock.
"""

from collections.abc import Sequence
from enum import StrEnum

from embed_worker.lake.heartbeats import Heartbeat, LastWord, Seen

SILENT_SECONDS = 60.0
"""A heartbeat older than this, or than four of its own intervals, is silent."""
RECOVER_SECONDS = 15 * 60.0
"""How long the next attempt is awaited; afterwards a partition that ended is failed or stale."""
FINDING = ("starting", "loading model")


class State(StrEnum):
    """Where a partition is."""

    COMMITTED = "committed"
    RUNNING = "running"
    RECOVERING = "recovering"
    """An attempt has ended before its time; the next is awaited, or is loading its model."""
    STALE = "stale"
    """It has begun, nothing is heard of it, and no attempt said that it ended."""
    FAILED = "failed"
    WAITING = "waiting"
    DAMAGED = "damaged"
    """Its manifest cannot be read."""


class Manifest(StrEnum):
    """What a look at a partition's manifest gave."""

    NONE = "none"
    SOUND = "sound"
    DAMAGED = "damaged"


def silent_after(beat: Heartbeat) -> float:
    return max(SILENT_SECONDS, 4 * (beat.every_seconds or 0.0))


def alive(seen: Seen, now: float) -> bool:
    return not seen.beat.over and seen.age(now) < silent_after(seen.beat)


def latest(beats: Sequence[Seen]) -> Seen | None:
    """The one that was written last; of those that the store's clock does not tell apart, the one that began last."""
    return max(beats, key=lambda seen: (seen.written, seen.begun, seen.beat.attempt), default=None)


def starts(beats: Sequence[Seen]) -> int:
    """Several engines of one node start together."""
    return sum(1 for seen in beats if seen.beat.begins_a_start)


def standing(word: LastWord | None, beats: Sequence[Seen], submitted: float | None) -> LastWord | None:
    """A driver's word, unless something came after it: a job file was written again, or an attempt beat.

    `submitted`: when the partition's last job file was written.
    """
    since = max([seen.written for seen in beats] + ([] if submitted is None else [submitted]), default=0.0)
    return word if word is not None and since <= word.written else None


def state_of(manifest: Manifest, beats: Sequence[Seen], now: float, given_up: LastWord | None = None) -> State:
    """`given_up`: a word that is `standing`."""
    if manifest is not Manifest.NONE:
        return State.COMMITTED if manifest is Manifest.SOUND else State.DAMAGED
    living = [seen for seen in beats if alive(seen, now)]
    if any(seen.beat.phase not in FINDING for seen in living):
        return State.RUNNING
    if living:
        return State.RECOVERING if starts(beats) > starts(living) else State.RUNNING
    if given_up is not None:
        return State.FAILED
    last = latest(beats)
    if last is None or last.beat.phase == "committed":
        return State.WAITING  # the latter: its manifest was taken away
    if last.beat.phase != "stopped":
        return State.STALE
    if last.beat.ending == "bad_job":
        return State.FAILED
    if last.age(now) < RECOVER_SECONDS:
        return State.RECOVERING
    return State.FAILED if last.beat.ending == "failed" else State.STALE


def reason_of(beats: Sequence[Seen], given_up: LastWord | None) -> str | None:
    """Why the last attempt ended, or why there is no other."""
    if given_up is not None:
        return given_up.word.error
    last = latest(beats)
    return last.beat.error if last and last.beat.phase == "stopped" else None


def rows_done(beats: Sequence[Seen], living: Sequence[Seen]) -> int:
    """Rows in checkpoints: what some attempt counted, or what the engines of a node have made side by side."""
    counted = max((seen.beat.rows_done for seen in beats), default=0)
    lanes = [seen.beat for seen in living if seen.beat.lane is not None]
    found = max((beat.rows_done - beat.rows_own for beat in lanes if not beat.begins_a_start), default=0)
    return max(counted, found + sum(beat.rows_own for beat in lanes))
