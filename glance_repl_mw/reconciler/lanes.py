# SPDX-License-Identifier: Apache-2.0
"""Places for reads, so that a slow one holds none that others need."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable

from glance_repl_mw.reconciler.reading import Reading, SourceName


class Shared(enum.Enum):
    """The places that all images share."""

    PLACE = enum.auto()


Place = Shared | SourceName
"""One of the shared places, or the own place of a target or of Glance."""


class Lanes:
    """A few shared places, and one of its own for each target and for Glance; used under a lock.

    A read whose source turns out to be slow leaves its shared place: it goes on at the own place
    of the source or, where that is taken, is broken off. A thread whose source says nothing at
    all cannot hear of that, and keeps the place that it has while too many of these are about.

    :param few: how many places are shared
    """

    def __init__(self, few: int, sources: Iterable[SourceName]) -> None:
        self._few = few
        self._shared: dict[Reading, str | None] = {}
        self._own: dict[SourceName, Reading | None] = dict.fromkeys(sources)
        self._broken_off: set[Reading] = set()

    @property
    def most_threads(self) -> int:
        return self._few + len(self._own) + self._few

    @property
    def owners(self) -> Collection[str | None]:
        """Whose images are read at shared places."""
        return self._shared.values()

    @property
    def readings(self) -> list[Reading]:
        """Those that have a place."""
        return [*self._shared, *(each for each in self._own.values() if each is not None)]

    def is_free(self, place: Place, most_shared: int) -> bool:
        """:param most_shared: how many of the shared places may be taken now"""
        if isinstance(place, Shared):
            return len(self._shared) < min(most_shared, self._few)
        return self._own[place] is None

    def take(self, place: Place, reading: Reading, owner: str | None) -> None:
        """The place must be free; ``give_back`` ends it."""
        if isinstance(place, Shared):
            self._shared[reading] = owner
        else:
            self._own[place] = reading

    def move_aside(self, reading: Reading) -> None:
        """Its source is slow: let others have its place."""
        source = reading.source
        if self._own.get(source) is reading:
            return
        if source in self._own and self._own[source] is None:
            self.give_back(reading)
            self._own[source] = reading
        elif len(self._broken_off) < self._few:
            self.give_back(reading)
            self._broken_off.add(reading)
            reading.break_off()

    def give_back(self, reading: Reading) -> None:
        """Does nothing where it has no place."""
        self._shared.pop(reading, None)
        self._broken_off.discard(reading)
        for source, holder in self._own.items():
            if holder is reading:
                self._own[source] = None
