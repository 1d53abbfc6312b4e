"""A figure with its range, and where it comes from."""

from dataclasses import dataclass
from enum import StrEnum


class How(StrEnum):
    """How well a figure is known. Of two that are combined, the weaker holds."""

    MEASURED = "measured"
    SAMPLED = "sampled"
    STATED = "stated"
    """By the pipeline or the command line."""
    ASSUMED = "assumed"


ORDER = list(How)


@dataclass(frozen=True)
class Figure:
    """A positive figure: what is expected, and between what it likely lies."""

    low: float
    value: float
    high: float
    how: How

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.value <= self.high:
            raise ValueError(f"{self.low} ≤ {self.value} ≤ {self.high} does not hold")

    @classmethod
    def exact(cls, value: float, how: How) -> "Figure":
        return cls(value, value, value, how)

    def __mul__(self, other: "Figure | float") -> "Figure":
        by = _figure(other, self.how)
        return Figure(self.low * by.low, self.value * by.value, self.high * by.high, _weaker(self.how, by.how))

    def __truediv__(self, other: "Figure | float") -> "Figure":
        by = _figure(other, self.how)
        return Figure(self.low / by.high, self.value / by.value, self.high / by.low, _weaker(self.how, by.how))

    def __add__(self, other: "Figure | float") -> "Figure":
        by = _figure(other, self.how)
        return Figure(self.low + by.low, self.value + by.value, self.high + by.high, _weaker(self.how, by.how))

    @property
    def is_range(self) -> bool:
        return self.low < self.high


def _figure(other: Figure | float, how: How) -> Figure:
    return other if isinstance(other, Figure) else Figure.exact(other, how)


def _weaker(a: How, b: How) -> How:
    return max(a, b, key=ORDER.index)
