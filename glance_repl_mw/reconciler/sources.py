"""Where the bytes of an image come from: the spool, else a healthy replica, else Glance."""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Iterator, Sequence

from oslo_log import log

from glance_repl_mw import exceptions
from glance_repl_mw.model import Image, Replica, ReplicaStatus
from glance_repl_mw.reconciler.tools import Stopping, Tools
from glance_repl_mw.reconciler.verification import Verifier
from glance_repl_mw.spool.upload import Origin, UploadState

LOG = log.getLogger(__name__)

_BLOCK_BYTES = 1024**2
_READ_PROBLEMS = (
    exceptions.TargetError,
    exceptions.GlanceUnavailable,
    exceptions.GlanceRefused,
    FileNotFoundError,
)


class Sources:
    """The sources of one image in their order; used by one thread.

    :param rows: all rows of the image
    """

    def __init__(self, tools: Tools, image: Image, rows: Sequence[Replica]) -> None:
        self._tools = tools
        self._image = image
        self._replicas = [
            row
            for row in rows
            if row.status is ReplicaStatus.ACTIVE
            and row.target in tools.targets
            and tools.health[row.target].is_up
        ]
        self._read_from: list[Replica] = []
        self._received = 0

    @property
    def origin(self) -> Origin:
        """Whether it comes from a replica, as far as all goes well, or from Glance."""
        return Origin.REPLICA if self._replicas else Origin.GLANCE

    def blocks(self) -> Iterator[bytes]:
        """The image's bytes; ends only if they are the image's, by size and hash.

        Where a source fails half way, the next one goes on.

        :raises SourceFailed: no source has them; replicas that are to blame were verified
        :raises Stopping: the writer ends
        """
        digest = hashlib.new(self._image.os_hash_algo or "md5", usedforsecurity=False)
        problem = "there is no source"
        for source in [*self._spooled(), *self._replicas, None]:
            try:
                for block in self._open(source):
                    if self._tools.stopping.is_set():
                        raise Stopping
                    digest.update(block)
                    self._received += len(block)
                    yield block
                break
            except _READ_PROBLEMS as error:
                problem = str(error)
                LOG.warning("Image %s: %s", self._image.image_id, problem)
        else:
            raise self._failed(problem)
        wrong = self._mismatch(digest.hexdigest(), digest.name)
        if wrong:
            self._verify_replicas()
            raise self._failed(wrong)

    def _open(self, source: pathlib.Path | Replica | None) -> Iterator[bytes]:
        """The bytes that are still missing; None is Glance."""
        if isinstance(source, pathlib.Path):
            return _blocks(source, self._received)
        if source is not None:
            self._read_from.append(source)
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

    def _mismatch(self, digest: str, algorithm: str) -> str | None:
        wanted = self._image.os_hash_value if self._image.os_hash_algo else self._image.checksum
        if self._received != self._image.size:
            return f"{self._received} bytes were read of {self._image.size}"
        if wanted and digest != wanted:
            return f"the {algorithm} of what was read is not that of the image"
        return None

    def _verify_replicas(self) -> None:
        """See which replicas are to blame, so that none of them is read again."""
        verifier = Verifier(self._tools)
        for replica in self._read_from:
            verifier.verify(replica, self._image, read_back=True)

    def _failed(self, hint: str) -> exceptions.SourceFailed:
        return exceptions.SourceFailed(self._image.image_id, None, "fetch", hint)


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
