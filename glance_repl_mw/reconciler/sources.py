# SPDX-License-Identifier: Apache-2.0
"""Where the bytes of an image come from: the spool, else a healthy replica, else Glance."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Sequence

import oslo_db.exception
from oslo_log import log

from glance_repl_mw import exceptions
from glance_repl_mw.content import ImageDigest
from glance_repl_mw.model import Image, Replica, ReplicaStatus
from glance_repl_mw.reconciler.reading import Reading, SourceName, Watched
from glance_repl_mw.reconciler.tools import Stopping, Tools
from glance_repl_mw.reconciler.verification import Outcome, Verifier
from glance_repl_mw.spool.upload import Origin, UploadState
from glance_repl_mw.targets.bounds import TooLong, bounded_blocks

LOG = log.getLogger(__name__)

_BLOCK_BYTES = 1024**2

Source = pathlib.Path | Replica | None
"""A file in the spool, a replica, or Glance."""


class Sources:
    """The sources of one image in their order; used by one thread.

    Those come last that failed lately.

    :param rows: all rows of the image
    :param reading: sees how fast the bytes come
    :ivar suspects: replicas that did not give the image's bytes; to be verified by ``verify``
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
        self._size = image.size or 0
        self._reading = reading or Reading()
        self._replicas = [
            row
            for row in rows
            if row.status is ReplicaStatus.ACTIVE and row.target in tools.up_targets()
        ]
        self._digest = ImageDigest.of(image)
        self._hasher = self._digest.hasher()
        self._received = 0
        self._read_from: dict[SourceName, Source] = {}
        self._was_slow = False
        self.suspects: list[Replica] = []

    @property
    def origin(self) -> Origin:
        """Whether it comes from a replica, as far as all goes well, or from Glance."""
        return Origin.REPLICA if self._replicas else Origin.GLANCE

    def blocks(self) -> Iterator[bytes]:
        """The image's bytes; ends only if they are the image's, by size and hash.

        Where a source fails half way, the next one goes on, unless wrong bytes came lately: then
        nobody could tell from where.

        :raises SourceFailed: what was given is to be thrown away
        :raises ImageGone: Glance does not know the image
        :raises Stopping: the writer ends
        """
        problem = "there is no source"
        for source in self._in_order():
            if self._received and self._tools.history.is_doubted(self._image.image_id):
                raise self._failed(problem)
            try:
                yield from self._read(source)
            except (Stopping, exceptions.ImageGone):
                raise
            except Exception as error:
                problem = str(error) or type(error).__name__
                self._blame(source, error)
                if isinstance(error, TooLong) and _name(source) in self._read_from:
                    raise self._wrong(problem) from error
            if self._received == self._size:
                break
        else:
            raise self._failed(problem)
        if not self._is_proven:
            what = f"the {self._digest.algorithm} of what was read is not that of the image"
            raise self._wrong(what)
        if not self._was_slow and not self._reading.is_slow:
            self._tools.history.good(self._image, self._read_from)

    def _read(self, source: Source) -> Iterator[bytes]:
        """The bytes that are still missing, as long as they may be the image's.

        :raises SourceFailed: the source ends before the image does
        """
        name = _name(source)
        blocks = self._opened(source)
        if not isinstance(source, pathlib.Path):
            blocks = self._reading.blocks(name, blocks)
        for block in _skip(blocks, 0 if source else self._received):
            if self._tools.stopping.is_set():
                raise Stopping
            self._read_from[name] = source
            self._hasher.update(block)
            self._received += len(block)
            yield block
            if self._received == self._size and self._is_proven and not self._digest.is_weak:
                return
        if self._received < self._size:
            hint = f"{self._received} bytes were read of {self._size}"
            raise exceptions.SourceFailed(self._image.image_id, name, "fetch", hint)

    def _opened(self, source: Source) -> Iterator[bytes]:
        """What a source gives, begun when it is asked for the first byte.

        :raises TooLong: it gives more than the image has
        """
        most = self._size - (self._received if source else 0)
        yield from bounded_blocks(self._open(source), most, 0.0, target=_name(source))

    def _open(self, source: Source) -> Iterator[bytes]:
        if isinstance(source, pathlib.Path):
            return _blocks(source, self._received)
        if source is None:
            return self._tools.images.download(self._image.image_id)
        if source.target not in self._tools.up_targets():
            raise exceptions.TargetUnavailable(source.image_id, source.target, "fetch", "is down")
        target = self._tools.targets[source.target]
        return target.open(source.object_name or "", self._received)

    def _in_order(self) -> list[Source]:
        sources: list[Source] = [*self._spooled(), *self._replicas, None]
        by_name = {_name(source): source for source in sources}
        names = self._tools.history.in_order(self._image.image_id, list(by_name))
        return [by_name[name] for name in names]

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

    @property
    def _is_proven(self) -> bool:
        return self._digest.matches(self._hasher.hexdigest())

    def _blame(self, source: Source, error: Exception) -> None:
        """One source did not give what it should have; the next one is asked."""
        is_known = isinstance(error, (exceptions.ReplicationError, OSError))
        LOG.warning("Image %s: %s", self._image.image_id, error, exc_info=not is_known)
        history = self._tools.history
        history.failed(self._image.image_id, _name(source))
        if isinstance(error, exceptions.SourceSlow):
            self._was_slow = True
            history.slow(self._image, _name(source))
        elif isinstance(source, Replica) and isinstance(error, _SUSPICIOUS):
            self.suspects.append(source)

    def _wrong(self, what: str) -> exceptions.SourceFailed:
        """Of what was read, something is wrong, and all that gave something may be to blame."""
        read = self._read_from
        self._tools.history.wrong(self._image.image_id, read)
        more = [each for each in read.values() if isinstance(each, Replica)]
        self.suspects += [each for each in more if each not in self.suspects]
        return self._failed(what)

    def _failed(self, hint: str) -> exceptions.SourceFailed:
        image_id, is_faulty = self._image.image_id, self._tools.history.is_faulty
        failed = exceptions.SourceFailed(image_id, None, "fetch", hint)
        names = map(_name, self._in_order())
        failed.others_are_left = not all(is_faulty(image_id, name) for name in names)
        return failed


_SUSPICIOUS = (
    TooLong,
    exceptions.ReplicaMissing,
    exceptions.TargetCorrupt,
    exceptions.SourceFailed,
)


def verify(
    tools: Tools, image: Image, suspects: Sequence[Replica], reading: Reading | None = None
) -> None:
    """See which replicas are to blame, so that none of them is read again.

    Where that cannot be told now, the scrub looks at the replica before others.

    :param reading: sees how fast they are read
    """
    watched = reading or Reading()
    for replica in suspects:
        try:
            obstacle = _obstacle_to_verify(tools, image, replica, watched)
            if obstacle:
                what = "Image %s, target %s: not known whether the replica is good: %s"
                LOG.warning(what, replica.image_id, replica.target, obstacle)
                tools.survey.change(replica, verified_at=None, read_back_at=None)
        except oslo_db.exception.DBError as error:
            what = "Image %s, target %s: cannot be verified now: %s"
            LOG.warning(what, replica.image_id, replica.target, error)


def _obstacle_to_verify(tools: Tools, image: Image, replica: Replica, watched: Reading) -> str:
    """Verify one; returns why that does not tell whether it is good, empty where it does."""
    if replica.target not in tools.up_targets():
        return "the target is down"
    watched.begin(replica.target)
    pace = Watched(watched, image.size or 0)
    try:
        verdict = Verifier(tools).verify(
            replica, image, read_back=True, pace=pace, is_suspect=True
        )
    except exceptions.SourceSlow as error:
        return str(error)
    return verdict.why if verdict.outcome is Outcome.UNKNOWN else ""


def _name(source: Source) -> SourceName:
    """As the history of sources knows it."""
    if isinstance(source, pathlib.Path):
        return f"upload {source.stem}"
    return source.target if source else None


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
