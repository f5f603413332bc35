"""Reads an image that Glance has into the spool, from a replica or else from Glance.

From there the writer makes replicas of it as of any upload, and proves the bytes once more.
"""

from __future__ import annotations

import hashlib
import pathlib
import uuid
from collections.abc import Iterator, Sequence

from oslo_log import log

from glance_repl_mw import exceptions
from glance_repl_mw.model import Image, Replica, ReplicaStatus
from glance_repl_mw.reconciler.tools import Stopping, Tools
from glance_repl_mw.reconciler.verification import Verifier
from glance_repl_mw.spool.appender import Appender
from glance_repl_mw.spool.upload import Origin, UploadState

LOG = log.getLogger(__name__)

_BLOCK_BYTES = 1024**2
_READ_PROBLEMS = (
    exceptions.TargetError,
    exceptions.GlanceUnavailable,
    exceptions.GlanceRefused,
    FileNotFoundError,
)


class Fetch:
    """One read of an image for all replicas that wait for it; runs in the feeder's pool.

    :param rows: all rows of the image
    """

    def __init__(self, tools: Tools, image: Image, rows: Sequence[Replica]) -> None:
        self._tools = tools
        self._image = image
        self._sources = [
            row
            for row in rows
            if row.status is ReplicaStatus.ACTIVE
            and row.target in tools.targets
            and tools.health[row.target].is_up
        ]
        self._used: list[Replica] = []
        self._received = 0
        self._hash = hashlib.new(image.os_hash_algo or "md5", usedforsecurity=False)

    def run(self, waiting: Sequence[Replica]) -> None:
        """Read the image into the spool for ``waiting``; the writer follows it meanwhile.

        Where no source gives it, the writer finds the upload rejected and plans the next attempt.

        :raises SpoolFull: there is no room now; nothing has changed
        :raises OSError: the spool cannot be written
        :raises oslo_db.exception.DBError:
        :raises Stopping: the writer ends; the next one begins again
        """
        self._tools.spool.require_room(self._image.size or 0)
        upload_id = uuid.uuid4().hex
        targets = self._tools.survey.assign(waiting, upload_id)
        if not targets:
            return
        origin = Origin.REPLICA if self._sources else Origin.GLANCE
        image_id, size = self._image.image_id, self._image.size
        appender = Appender(self._tools.spool, image_id, size, origin, upload_id, targets)
        try:
            problem = self._copy(appender) or self._mismatch()
        except BaseException as error:
            appender.reject(f"the fetch was broken off: {error or type(error).__name__}")
            raise
        if problem:
            LOG.warning("Image %s cannot be fetched: %s", image_id, problem)
            appender.reject(problem)
            self._verify_sources()
        else:
            appender.accept()

    def _copy(self, appender: Appender) -> str | None:
        """Append the image; returns why no source gave all of it, None where one did."""
        problem = "there is no source"
        for source in [*self._spooled(), *self._sources, None]:
            try:
                for block in self._open(source):
                    if self._tools.stopping.is_set():
                        raise Stopping
                    appender.append(block)
                    self._hash.update(block)
                    self._received += len(block)
                return None
            except _READ_PROBLEMS as error:
                problem = str(error)
                LOG.warning("Image %s: %s", self._image.image_id, problem)
        return problem

    def _open(self, source: pathlib.Path | Replica | None) -> Iterator[bytes]:
        """The bytes that are still missing; None is Glance."""
        if isinstance(source, pathlib.Path):
            return _blocks(source, self._received)
        if source is not None:
            self._used.append(source)
            target = self._tools.targets[source.target]
            return target.open(source.object_name or "", self._received)
        return _skip(self._tools.images.download(self._image.image_id), self._received)

    def _spooled(self) -> list[pathlib.Path]:
        """Files of uploads of the image that wait in the spool for other targets."""
        spool = self._tools.spool
        return [
            spool.data_path(upload.upload_id)
            for upload in spool.uploads()
            if upload.image_id == self._image.image_id
            and upload.state is UploadState.ACCEPTED
            and upload.received == self._image.size
        ]

    def _mismatch(self) -> str | None:
        wanted = self._image.os_hash_value if self._image.os_hash_algo else self._image.checksum
        if self._received != self._image.size:
            return f"{self._received} bytes were read of {self._image.size}"
        if wanted and self._hash.hexdigest() != wanted:
            return f"the {self._hash.name} of what was read is not that of the image"
        return None

    def _verify_sources(self) -> None:
        """See which replicas are to blame, so that none of them is read again."""
        verifier = Verifier(self._tools)
        for replica in self._used:
            verifier.verify(replica, self._image, read_back=True)


def _blocks(path: pathlib.Path, offset: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        while block := file.read(_BLOCK_BYTES):
            yield block


def _skip(blocks: Iterator[bytes], count: int) -> Iterator[bytes]:
    for block in blocks:
        if count < len(block):
            yield block[count:]
        count = max(0, count - len(block))
