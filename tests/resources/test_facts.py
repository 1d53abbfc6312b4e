"""The facts of a job: what is not known says why, what is no matter of a backend is not told at all."""

import pytest
from pydantic import ValidationError

from resources.compute import JobState, JobStatus
from resources.facts import JobFacts


def test_what_is_not_known_is_told_with_its_reason_and_never_as_a_zero() -> None:
    facts = JobFacts(id=7, spot=False, recoveries=0, unknown={"cost_dollars": "Slurm has no price list"})
    assert facts.told() == {
        "id": 7,
        "spot": False,
        "recoveries": 0,
        "cost_dollars": "unknown: Slurm has no price list",
    }


def test_a_backend_without_prices_is_not_one_whose_prices_are_unknown() -> None:
    assert JobStatus(JobState.RUNNING).facts == JobFacts()
    assert not JobFacts(worker_pid=7).priced
    assert JobFacts(cost_dollars=0.0).priced
    assert JobFacts(unknown={"cost_dollars": "no poll saw its machine"}).priced


@pytest.mark.parametrize("wrong", [{"cost": 1.0}, {"unknown": {"cost": "?"}}, {"spot": True, "unknown": {"spot": "?"}}])
def test_a_misspelt_fact_is_an_error(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        JobFacts.model_validate(wrong)
