# SPDX-License-Identifier: Apache-2.0
"""What the users of the campaign were promised by Glance, to be compared with what it holds."""

import dataclasses
import random
import threading
from collections.abc import Iterator, Mapping

from tests.chaos.observation import Image


@dataclasses.dataclass
class Entry:
    """One image as its user knows it.

    :ivar sent: sha512 of each body that was ever sent for it
    :ivar acknowledged: sha512 of the body that Glance answered 2xx to
    :ivar is_wanted: nobody has tried to delete it
    :ivar is_deleted: Glance answered 2xx to a delete, or 404 to another after an unanswered one
    :ivar is_busy: a worker that writes or deletes has it to itself
    """

    image_id: str
    sent: set[str] = dataclasses.field(default_factory=set)
    acknowledged: str | None = None
    is_wanted: bool = True
    is_deleted: bool = False
    is_busy: bool = False


class Ledger:
    """All images that were ever made; used by all workers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._broken: list[str] = []

    def open(self, image_id: str) -> Entry:
        """Begin an entry, which is the caller's until it is let go."""
        with self._lock:
            entry = self._entries[image_id] = Entry(image_id, is_busy=True)
            return entry

    def let_go(self, entry: Entry) -> None:
        with self._lock:
            entry.is_busy = False

    def pick(self, rng: random.Random, *, filled: bool | None = None) -> Entry | None:
        """Any image that somebody wants; it may be busy.

        :param filled: only those whose upload was, or was not, acknowledged
        """
        with self._lock:
            return self._choose(rng, filled, idle=False)

    def take(self, rng: random.Random, *, filled: bool | None = None) -> Entry | None:
        """As `pick`, but it is the caller's alone until it is let go."""
        with self._lock:
            entry = self._choose(rng, filled, idle=True)
            if entry is not None:
                entry.is_busy = True
            return entry

    def take_to_delete(self, rng: random.Random) -> Entry | None:
        """Any image that is not known to be gone; the caller's alone until it is let go."""
        with self._lock:
            fitting = [
                entry
                for entry in self._entries.values()
                if not entry.is_deleted and not entry.is_busy
            ]
            entry = rng.choice(fitting) if fitting else None
            if entry is not None:
                entry.is_busy = True
            return entry

    def left(self) -> list[Entry]:
        """All images that are not known to be gone."""
        with self._lock:
            return [entry for entry in self._entries.values() if not entry.is_deleted]

    def report(self, broken: str) -> None:
        """Take note of a promise that was seen broken."""
        with self._lock:
            self._broken.append(broken)

    def broken(self, images: Mapping[str, Image]) -> list[str]:
        """What Glance promised and does not keep.

        :param images: what it holds, while nobody uploads or deletes
        """
        with self._lock:
            found = [each for entry in self._entries.values() for each in _broken(entry, images)]
            return self._broken + found

    def _choose(self, rng: random.Random, filled: bool | None, *, idle: bool) -> Entry | None:
        fitting = [
            entry
            for entry in self._entries.values()
            if entry.is_wanted
            and not (idle and entry.is_busy)
            and filled in (None, entry.acknowledged is not None)
        ]
        return rng.choice(fitting) if fitting else None


def _broken(entry: Entry, images: Mapping[str, Image]) -> Iterator[str]:
    image = images.get(entry.image_id)
    if image is None or image.is_going:
        if entry.is_wanted and entry.acknowledged:
            yield f"image {entry.image_id}: its upload was acknowledged, and it is gone"
        return
    if entry.is_deleted:
        yield f"image {entry.image_id}: its delete was acknowledged, and it is {image.status}"
    elif entry.is_wanted and entry.acknowledged and not image.has_data:
        yield f"image {entry.image_id}: its upload was acknowledged, and it is {image.status}"
    elif image.has_data:
        expected = {entry.acknowledged} if entry.acknowledged else entry.sent
        if image.os_hash_value not in expected:
            yield f"image {entry.image_id}: Glance has other bytes than it was sent"
