# SPDX-License-Identifier: Apache-2.0
"""Copies an image that is too large for the spool straight from a source to a target.

Each target costs one read of the image, and a broken transfer begins again.
"""

from __future__ import annotations

import datetime
import functools
import time
import uuid
from collections.abc import Sequence

from oslo_log import log
from oslo_utils import timeutils

from glance_repl_mw import exceptions
from glance_repl_mw.model import Image, Replica, ReplicaStatus, Stored
from glance_repl_mw.pace import Pace
from glance_repl_mw.reconciler.deletion_guard import delete_objects
from glance_repl_mw.reconciler.reading import Reading
from glance_repl_mw.reconciler.sources import Sources
from glance_repl_mw.reconciler.tools import Tools
from glance_repl_mw.replicas.deletion import Cause
from glance_repl_mw.replicas.name import ObjectName
from glance_repl_mw.spool.upload import TAIL_BYTES
from glance_repl_mw.targets.base import Target

LOG = log.getLogger(__name__)

_NO_PACE = Pace(0)
_TAKEN_OVER = "another node has taken the replica over"


class Relay:
    """One image for the replicas that wait for it; runs in the feeder's pool.

    :param rows: all rows of the image
    :param reading: sees how fast the bytes come
    :ivar suspects: replicas that did not give the image's bytes
    """

    def __init__(
        self,
        tools: Tools,
        image: Image,
        rows: Sequence[Replica],
        reading: Reading | None = None,
    ) -> None:
        self._tools = tools
        self._image = image
        self._rows = rows
        self._reading = reading
        self.suspects: list[Replica] = []

    def run(self, waiting: Sequence[Replica]) -> None:
        """Copy the image to one target after the other; rows say what became of it.

        :raises oslo_db.exception.DBError:
        :raises Stopping: the writer ends; the next one begins again
        """
        for row in waiting:
            upload_id = uuid.uuid4().hex
            name = ObjectName.first(self._image.image_id, row.target, upload_id, time.time())
            begun = self._tools.survey.change(
                row,
                ReplicaStatus.UPLOADING,
                upload_id=upload_id,
                object_name=str(name),
                # They stay until this replica is active.
                former_objects=" ".join(row.object_names) or None,
                bytes_sent=0,
                next_attempt_at=None,
                node=self._tools.survey.node,
            )
            if begun:
                self._copy(begun)

    def _copy(self, row: Replica) -> None:
        target = self._tools.targets[row.target]
        pool = self._tools.pools.get(row.target)
        put = functools.partial(self._put, target, row.object_name or "")
        try:
            # As one of those pushes of which there are at most ``max_connections`` at once.
            stored = pool.submit(put).result() if pool else put()
        except (exceptions.ReplicationError, OSError) as error:
            self._failed(row, error)
            return
        is_ours = self._tools.survey.change(
            row,
            ReplicaStatus.STORED,
            node=None,
            location_url=stored.location_url,
            checksum=self._image.checksum,
            size=stored.size,
            bytes_sent=stored.size,
            attempts=0,
            error=None,
            next_attempt_at=timeutils.utcnow(),
        )
        if not is_ours:
            LOG.warning("Image %s, target %s: %s", row.image_id, row.target, _TAKEN_OVER)
            guard, name = self._tools.guard, row.object_name or ""
            delete_objects(guard, guard.look(row.image_id), target, [name], Cause.SUPERSEDED)

    def _put(self, target: Target, name: str) -> Stored:
        pace = self._tools.paces.get(target.name, _NO_PACE)
        sources = Sources(self._tools, self._image, self._rows, self._reading)
        try:
            return target.put(name, _Reader(sources, pace), self._image.size)
        finally:
            self.suspects += sources.suspects

    def _failed(self, row: Replica, error: Exception) -> None:
        LOG.warning("Image %s, target %s: %s", row.image_id, row.target, error)
        pause = self._tools.pause_seconds(row.attempts + 1)
        self._tools.survey.change(
            row,
            ReplicaStatus.ERROR,
            node=None,
            error=str(error),
            attempts=row.attempts + 1,
            next_attempt_at=timeutils.utcnow() + datetime.timedelta(seconds=pause),
        )


class _Reader:
    """The image as a driver reads it; the tail comes only once all bytes are proven."""

    def __init__(self, sources: Sources, pace: Pace) -> None:
        self._pace = pace
        self._blocks = sources.blocks()
        self._buffer = b""
        self._is_proven = False
        self.offset = 0

    def fileno(self) -> int | None:
        return None

    def wait(self) -> int:
        while not self._is_proven and len(self._buffer) <= TAIL_BYTES:
            block = next(self._blocks, None)
            self._is_proven = block is None
            self._buffer += block or b""
        return len(self._buffer) - (0 if self._is_proven else TAIL_BYTES)

    def read(self, size: int = -1) -> bytes:
        available = self.wait()
        wanted = available if size < 0 else min(size, available)
        if not wanted:
            return b""
        data = self._buffer[: self._pace.take(wanted)]
        self.skip(len(data))
        return data

    def skip(self, count: int) -> None:
        self._buffer = self._buffer[count:]
        self.offset += count
