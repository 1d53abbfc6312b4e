"""Notes of attempts: what is damaged is not known, and never an error."""

from typing import Any

import pytest

from embed_worker.lake.attempts import Attempt, Hardware, attempt_of, in_order, readable


@pytest.mark.parametrize("note", [None, [], "a", {}, {"attempt": None}, {"attempt": "../a"}, {"attempt": "x" * 300}])
def test_what_names_no_attempt_is_none(note: Any) -> None:
    assert attempt_of(note) is None


def test_a_field_that_does_not_fit_is_not_known_and_unknown_keys_are_left_out() -> None:
    note = {
        "attempt": "a1", "started_at": "yesterday", "lane": ["1"], "host": "h" * 1000, "pid": -1, "spot": "yes",
        "price_per_hour": 0, "skypilot_job_id": 7, "region": None, "password": "hunter2",
    }  # fmt: skip
    found = attempt_of(note)
    assert found is not None and found.note() == {"attempt": "a1", "host": "h" * 300, "skypilot_job_id": "7"}


@pytest.mark.parametrize(
    ("lane", "begins"), [(None, True), ("1 of 8", True), ("2 of 8", False), ("11 of 12", False), ("first", True)]
)
def test_a_nodes_engines_are_one_start(lane: str | None, begins: bool) -> None:
    assert Attempt(attempt="a", lane=lane).begins_a_start is begins


def test_attempts_are_ordered_by_their_begin() -> None:
    times = {"a": "2026-01-01T02:00:00+00:00", "b": "2026-01-01T02:30:00+01:00", "c": "2026-01-01T00:00:00"}
    notes = [{"attempt": name, "started_at": time} for name, time in times.items()]
    found = in_order(readable([*notes, {}, None]))
    assert [attempt.attempt for attempt in found] == ["c", "b", "a"], "without a zone a time is not known"


def test_hardware_that_was_damaged_is_not_known() -> None:
    assert Hardware.model_validate({"cpu": 1, "cores": "8", "gpus": [{}], "engines": 0}) == Hardware(cpu="1")
    assert Hardware().machine == "CPU"
