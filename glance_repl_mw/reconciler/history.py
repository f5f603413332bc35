# SPDX-License-Identifier: Apache-2.0
"""What the sources of images did lately: which of them to ask last, and whom to let wait."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable, Collection, Hashable, Sequence

from glance_repl_mw.model import Image
from glance_repl_mw.reconciler.reading import SourceName

_MOST = 10_000
_FAILED_SECONDS = 600.0
_SLOW_SECONDS = 3600.0


class Lately:
    """Keys that something happened to within the last while; used by any thread.

    :param most: how many are kept; further ones take the place of the oldest
    """

    def __init__(
        self, seconds: float, most: int = _MOST, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._moments: collections.OrderedDict[Hashable, float] = collections.OrderedDict()

    def add(self, key: Hashable) -> None:
        with self._lock:
            self._moments[key] = self._clock()
            self._moments.move_to_end(key)
            while len(self._moments) > self._most:
                self._moments.popitem(last=False)

    def discard(self, key: Hashable) -> None:
        with self._lock:
            self._moments.pop(key, None)

    def moment(self, key: Hashable) -> float:
        """When it was last added, minus infinity where that is long ago."""
        with self._lock:
            moment = self._moments.get(key, float("-inf"))
        return moment if self._clock() - moment < self._seconds else float("-inf")

    def __contains__(self, key: Hashable) -> bool:
        return self.moment(key) > float("-inf")


class SourceHistory:
    """What went wrong with sources, for a while and for as many as memory allows; any thread.

    A source of an image is told by its target's name, by the upload in the spool, or is Glance.
    """

    def __init__(self) -> None:
        self._failed = Lately(_FAILED_SECONDS)
        self._slow_targets = Lately(_FAILED_SECONDS)
        self._doubted = Lately(_SLOW_SECONDS)
        self._slow_images = Lately(_SLOW_SECONDS)
        self._slow_owners = Lately(_SLOW_SECONDS)

    def failed(self, image_id: str, source: SourceName) -> None:
        """The source did not give all bytes of the image."""
        self._failed.add((image_id, source))

    def wrong(self, image_id: str, sources: Collection[SourceName]) -> None:
        """One of these gave other bytes than the image's."""
        self._doubted.add(image_id)
        for source in sources:
            self.failed(image_id, source)

    def slow(self, image: Image, source: SourceName) -> None:
        """The image comes slowly from there.

        From Glance, that is held against the image and its owner: Glance may read it at a server
        that its owner has named.
        """
        if source is not None:
            self._slow_targets.add(source)
            return
        self._slow_images.add(image.image_id)
        if image.owner is not None:
            self._slow_owners.add(image.owner)

    def good(self, image: Image, sources: Collection[SourceName]) -> None:
        """These gave the image's bytes, and none of them was slow."""
        for source in sources:
            self._failed.discard((image.image_id, source))
            self._slow_targets.discard(source)
        if None in sources:
            self._slow_images.discard(image.image_id)
            self._slow_owners.discard(image.owner)

    def is_doubted(self, image_id: str) -> bool:
        """Whether wrong bytes were read of the image lately: each read has one source then."""
        return image_id in self._doubted

    def is_slow(self, image: Image) -> bool:
        """Whether the image, or another one of its owner, came slowly from Glance lately."""
        return image.image_id in self._slow_images or image.owner in self._slow_owners

    def is_faulty(self, image_id: str, source: SourceName) -> bool:
        """Whether something was wrong lately with this source of the image."""
        return self._last_fault(image_id, source) > float("-inf")

    def in_order(self, image_id: str, sources: Sequence[SourceName]) -> list[SourceName]:
        """Those first with which nothing was wrong, then those with which it was longest ago."""
        return sorted(sources, key=lambda source: self._last_fault(image_id, source))

    def _last_fault(self, image_id: str, source: SourceName) -> float:
        slow = self._slow_images.moment(image_id) if source is None else None
        slow = self._slow_targets.moment(source) if slow is None else slow
        return max(slow, self._failed.moment((image_id, source)))
