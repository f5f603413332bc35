# SPDX-License-Identifier: Apache-2.0
"""All scenarios, in the order in which they run."""

import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator, Set

from benchmarks.figures import Figure
from benchmarks.scenarios import (
    database,
    download,
    idle,
    in_flight,
    lag,
    memory,
    parts,
    race,
    reconciler,
    rest,
    several_targets,
    small,
    small_parts,
)
from benchmarks.settings import Settings
from benchmarks.stage import Stage


@dataclasses.dataclass(frozen=True)
class Scenario:
    """What yields the figures with these names.

    :ivar is_extra: it runs only when it is asked for
    """

    names: tuple[str, ...]
    run: Callable[[Stage, Settings, Set[str]], Iterable[Figure]]
    is_extra: bool = False


SCENARIOS = (
    Scenario(race.NAMES, race.run),
    Scenario(race.QCOW2_NAMES, race.run_qcow2),
    Scenario(parts.NAMES, parts.run),
    Scenario(lag.NAMES, lag.run),
    Scenario(several_targets.NAMES, several_targets.run),
    Scenario(download.NAMES, download.run),
    Scenario(small.NAMES, small.run),
    Scenario(small_parts.NAMES, small_parts.run, is_extra=True),
    Scenario(in_flight.NAMES, in_flight.run),
    Scenario(memory.NAMES, memory.run),
    Scenario(idle.NAMES, idle.run),
    Scenario(database.NAMES, database.run, is_extra=True),
    Scenario(reconciler.BACKFILL_NAMES, reconciler.run_backfill, is_extra=True),
    Scenario(reconciler.RESTART_NAMES, reconciler.run_restart, is_extra=True),
    Scenario(rest.NAMES, rest.run, is_extra=True),
)
EXTRA = tuple(name for each in SCENARIOS if each.is_extra for name in each.names)
NAMES = tuple(name for each in SCENARIOS if not each.is_extra for name in each.names)


def measure(stage: Stage, settings: Settings, wanted: Set[str]) -> Iterator[list[Figure]]:
    """Run what the wanted figures take; yields after each scenario."""
    for scenario in SCENARIOS:
        names = wanted & set(scenario.names)
        if names:
            print(
                f"== {', '.join(each for each in scenario.names if each in names)}",
                file=sys.stderr,
            )
            yield list(scenario.run(stage, settings, names))
