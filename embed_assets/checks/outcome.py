"""What a check found, and how checks are run so that one that cannot read its files fails instead of crashing."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from embed_worker.lake.errors import StoreUnavailable

V = TypeVar("V")


@dataclass(frozen=True)
class CheckOutcome:
    """Passed or not, in a sentence, with figures."""

    passed: bool
    description: str
    metadata: dict[str, Any] = field(default_factory=dict)


Check = Callable[[V], CheckOutcome]
Checked = dict[str, CheckOutcome]
"""By the check's name."""


def run_checks(checks: Mapping[str, Check[V]], names: Iterable[str], view: V, *, ask_again: bool = False) -> Checked:
    """The named checks on one partition. `ask_again`: a lake that is away is no finding but StoreUnavailable."""
    outcomes = {}
    for name in names:
        try:
            outcomes[name] = checks[name](view)
        except StoreUnavailable as error:
            if ask_again:
                raise
            outcomes[name] = CheckOutcome(False, f"cannot be checked: {error}")
        except Exception as error:  # whatever a damaged file makes of a reader, it is a failed check
            outcomes[name] = CheckOutcome(False, f"cannot be checked: {type(error).__name__}: {error}")
    return outcomes


def all_failed(names: Iterable[str], why: str) -> Checked:
    """For a partition of which there is nothing to check."""
    return {name: CheckOutcome(False, why) for name in names}
