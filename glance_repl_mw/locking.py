"""Lets one request at a time change the record of an image.

Glance reads an image's record, changes it, and writes it back as a whole: it deletes each
location that was added in between. Two such requests at the same moment therefore lose a location
although both were answered well.
"""

from __future__ import annotations

import abc
import contextlib
import fcntl
import os
import pathlib
import time
import zlib
from collections.abc import Iterator

from oslo_log import log

LOG = log.getLogger(__name__)

DIRECTORY = "locks"
# A request that hangs holds up the changes of the images that share its lock: so many.
LOCKS = 1024
_SHORTEST_PAUSE_SECONDS = 0.002
_LONGEST_PAUSE_SECONDS = 0.05


class ImageLocks(abc.ABC):
    """The locks of all images; those of several images may be one.

    :param wait_seconds: the longest time that a request waits for another one
    :ivar is_shared: by several nodes
    """

    is_shared = False

    def __init__(self, wait_seconds: float) -> None:
        self._wait_seconds = wait_seconds
        self._failing = False

    @contextlib.contextmanager
    def hold(self, image_id: str) -> Iterator[bool]:
        """Hold the image's lock, if it can be had in time; blocks, and raises nothing.

        Gives whether it is held. Where it is not, most changes go on all the same: Glance has no
        limit for the time that a request may take.
        """
        is_held = False
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._locked(image_id))
                is_held, self._failing = True, False
            except TimeoutError:
                LOG.warning(
                    "Image %s is changed although another change has not ended for %s seconds; "
                    "Glance may lose a location",
                    image_id,
                    self._wait_seconds,
                )
            except OSError as error:
                if not self._failing:
                    LOG.warning(
                        "Images are changed without a lock, so that Glance may lose locations: %s",
                        error,
                    )
                self._failing = True
            yield is_held

    @abc.abstractmethod
    def _locked(self, image_id: str) -> contextlib.AbstractContextManager[None]:
        """Hold the lock.

        :raises TimeoutError: somebody else holds it for too long
        :raises OSError: there are no locks
        """


def number_of(image_id: str) -> int:
    """Which of the locks is the image's, from 0 to ``LOCKS`` - 1."""
    # Some databases compare ids without regard to capitals.
    return zlib.crc32(image_id.lower().encode()) % LOCKS


class NodeImageLocks(ImageLocks):
    """Shared by the processes and threads of one node.

    They are empty files, made when they are first needed, on which ``flock`` is held.

    :param directory: the spool, in which the files get a directory of their own
    """

    def __init__(self, directory: pathlib.Path, wait_seconds: float = 10.0) -> None:
        super().__init__(wait_seconds)
        self._directory = directory / DIRECTORY

    @contextlib.contextmanager
    def _locked(self, image_id: str) -> Iterator[None]:
        # Each has a file description of its own: threads that share one share its lock as well.
        descriptor = self._open(self._path(image_id))
        try:
            self._wait_for(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _path(self, image_id: str) -> pathlib.Path:
        return self._directory / f"{number_of(image_id):03x}"

    def _open(self, path: pathlib.Path) -> int:
        # For reading: a file that is there can so be locked on a read-only disk as well.
        flags = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            return os.open(path, flags, 0o600)

    def _wait_for(self, descriptor: int) -> None:
        give_up_at = time.monotonic() + self._wait_seconds
        pause = _SHORTEST_PAUSE_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > give_up_at:
                    raise TimeoutError from None
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
