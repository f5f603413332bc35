# SPDX-License-Identifier: Apache-2.0
"""Lets one request at a time change the record of an image.

Glance reads an image's record, changes it, and writes it back as a whole: it deletes each
location that was added in between. Two such requests at the same moment therefore lose a location
although both were answered well.
"""

from __future__ import annotations

import abc
import contextlib
import contextvars
import fcntl
import hashlib
import os
import pathlib
import time
from collections.abc import Iterator

from oslo_log import log

LOG = log.getLogger(__name__)

DIRECTORY = "locks"
_SHORTEST_PAUSE_SECONDS = 0.002
_LONGEST_PAUSE_SECONDS = 0.05


_held: contextvars.ContextVar[contextlib.ExitStack | None] = contextvars.ContextVar(
    "held", default=None
)


class ImageLocks(abc.ABC):
    """The locks of all images, one for each: a held lock delays changes of its own image only.

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
        with contextlib.ExitStack() as stack, _known_as_held(stack):
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


@contextlib.contextmanager
def _known_as_held(stack: contextlib.ExitStack) -> Iterator[None]:
    token = _held.set(stack)
    try:
        yield
    finally:
        _held.reset(token)


def let_go() -> None:
    """Give back what the request in this thread holds, before its end; does nothing twice."""
    stack = _held.get()
    if stack is not None:
        stack.close()


def name_of(image_id: str) -> str:
    """The name of the image's lock, of 32 letters that a file or a coordinator takes."""
    # Some databases compare ids without regard to capitals.
    return hashlib.sha256(image_id.lower().encode()).hexdigest()[:32]


class NodeImageLocks(ImageLocks):
    """Shared by the processes and threads of one node.

    They are empty files on which ``flock`` is held. Each is there while somebody holds it; what
    processes leave that were killed goes with the next start.

    :param directory: the spool, in which the files get a directory of their own
    """

    def __init__(self, directory: pathlib.Path, wait_seconds: float = 10.0) -> None:
        super().__init__(wait_seconds)
        self._directory = directory / DIRECTORY
        self._tidy()

    def _tidy(self) -> None:
        with contextlib.suppress(OSError):
            for path in self._directory.iterdir():
                with path.open("rb") as file, contextlib.suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove(path, file.fileno())

    @contextlib.contextmanager
    def _locked(self, image_id: str) -> Iterator[None]:
        path = self._directory / name_of(image_id)
        descriptor = self._acquired(path)
        try:
            yield
        finally:
            # Who waits for this file finds then that it is not the one of that name any more.
            with contextlib.suppress(OSError):
                _remove(path, descriptor)
            os.close(descriptor)

    def _acquired(self, path: pathlib.Path) -> int:
        """A descriptor of the file that has this name, locked.

        :raises TimeoutError: somebody else holds it for too long
        :raises OSError: there are no locks
        """
        give_up_at = time.monotonic() + self._wait_seconds
        while True:
            # A file description of its own: threads that share one share its lock as well.
            descriptor = self._open(path)
            try:
                _wait_for(descriptor, give_up_at)
                if _is_at(path, descriptor):
                    return descriptor
                # Others may be quicker again and again.
                if time.monotonic() > give_up_at:
                    raise TimeoutError
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _open(self, path: pathlib.Path) -> int:
        flags = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            return os.open(path, flags, 0o600)


def _wait_for(descriptor: int, give_up_at: float) -> None:
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


def _is_at(path: pathlib.Path, descriptor: int) -> bool:
    """Whether the file that is open is the one at the path."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove(path: pathlib.Path, descriptor: int) -> None:
    """Remove the file whose lock is held, and no other one.

    :raises OSError:
    """
    if _is_at(path, descriptor):
        path.unlink()
