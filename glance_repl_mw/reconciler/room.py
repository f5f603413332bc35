# SPDX-License-Identifier: Apache-2.0
"""Whether the spool has room for a fetch, with those reckoned in that are under way."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from glance_repl_mw import exceptions
from glance_repl_mw.model import Image
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.spool.upload import UploadState


class Room:
    """The room for fetches in the spool of this node; used by any thread.

    :param percent: of the spool that may be taken; the rest is for uploads
    """

    def __init__(self, spool: Spool, percent: int) -> None:
        self._spool = spool
        self._percent = percent
        self._lock = threading.RLock()
        self._expected: dict[str, int] = {}

    @property
    def is_crowded(self) -> bool:
        return self._spool.is_crowded(self._percent)

    def could_hold(self, size: int) -> bool:
        """Whether there is room for so many bytes where nothing else is in the spool."""
        return size * 100 <= self._spool.capacity_bytes() * self._percent

    def is_there(self, size: int) -> bool:
        """Whether so many bytes find room now, although others are still to come."""
        with self._lock:
            coming = dict(self._expected)
        for upload in self._spool.uploads():
            if upload.image_id in coming and upload.state is UploadState.RECEIVING:
                coming[upload.image_id] -= self._spool.received_bytes(upload.upload_id)
        return not self._spool.is_crowded(self._percent, size + max(0, sum(coming.values())))

    @contextlib.contextmanager
    def kept_for(self, image: Image) -> Iterator[None]:
        """Meanwhile nobody else gets the room that the image's bytes are still to take.

        :raises SpoolFull:
        """
        with self._lock:
            self.require(image)
            self._expected[image.image_id] = image.size or 0
        try:
            yield
        finally:
            self.give_up(image.image_id)

    def require(self, image: Image) -> None:
        """See that there is room for the image now, and keep none.

        :raises SpoolFull:
        """
        if not self.is_there(image.size or 0):
            hint = "the spool has no room now"
            raise exceptions.SpoolFull(image.image_id, None, "fetch", hint)

    def give_up(self, image_id: str) -> None:
        """Keep no room for the image any more: its bytes come so slowly that others come first."""
        with self._lock:
            self._expected.pop(image_id, None)
