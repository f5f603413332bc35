# SPDX-License-Identifier: Apache-2.0
"""What comes out of a run: samples, their medians and spread, and figures held against goals."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Samples = Mapping[str, Sequence[float]]


class Spread(NamedTuple):
    """The quartiles of some samples."""

    low: float
    median: float
    high: float


def spread(samples: Sequence[float]) -> Spread:
    """The quartiles; one sample is all three of them.

    :raises statistics.StatisticsError: there is no sample
    """
    if len(samples) < 2:
        return Spread(*3 * [statistics.median(samples)])
    return Spread(*statistics.quantiles(samples, n=4, method="inclusive"))


def ratio(samples: Samples, over: str, under: str) -> float:
    """The ratio of two contenders' medians."""
    return statistics.median(samples[over]) / statistics.median(samples[under])


def ratio_spread(samples: Samples, over: str, under: str) -> Spread:
    """The quartiles of the ratios round by round: both sides of each met the same noise."""
    pairs = zip(samples[over], samples[under], strict=True)
    return spread([above / below for above, below in pairs])


@dataclasses.dataclass(frozen=True)
class Goal:
    """What a figure should be: at most the limit, or at least."""

    limit: float
    at_least: bool = False

    def is_met_by(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'at least' if self.at_least else 'at most'} {self.limit:g}"


@dataclasses.dataclass(frozen=True)
class Figure:
    """One line of the table.

    :ivar name: what --only selects it by
    :ivar what: what was measured, with its unit where it is not a ratio
    :ivar between: the quartiles round by round, where there are rounds
    :ivar samples: what the value was computed from, by contender
    :ivar cpu_seconds: medians by contender and kind of process; what a missed goal is explained by
    :ivar notes: what one must know to read the value
    """

    name: str
    what: str
    value: float
    unit: str = ""
    goal: Goal | None = None
    between: tuple[float, float] | None = None
    samples: Samples = dataclasses.field(default_factory=dict)
    cpu_seconds: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def is_met(self) -> bool | None:
        """None where there is no goal."""
        return None if self.goal is None else self.goal.is_met_by(self.value)

    def as_json(self) -> dict[str, Any]:
        goal = None if self.goal is None else dataclasses.asdict(self.goal)
        return {**dataclasses.asdict(self), "goal": goal, "is_met": self.is_met}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Figure":
        known = {name: value for name, value in values.items() if name != "is_met"}
        known["goal"] = None if known["goal"] is None else Goal(**known["goal"])
        known["between"] = None if known["between"] is None else tuple(known["between"])
        known["notes"] = tuple(known["notes"])
        return cls(**known)


def compare(
    name: str,
    what: str,
    samples: Samples,
    over: str,
    under: str,
    goal: Goal | None = None,
    **others: Any,
) -> Figure:
    """The figure for a ratio of two contenders."""
    low, _, high = ratio_spread(samples, over, under)
    return Figure(
        name,
        what,
        ratio(samples, over, under),
        goal=goal,
        between=(low, high),
        samples={each: list(samples[each]) for each in (over, under)},
        **others,
    )
