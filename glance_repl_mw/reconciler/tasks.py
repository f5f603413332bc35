# SPDX-License-Identifier: Apache-2.0
"""Runs the reconciler's tasks, each in a thread of its own."""

from __future__ import annotations

import abc
import contextlib
import threading
from collections.abc import Collection, Iterator

import oslo_db.exception
from oslo_log import log

from glance_repl_mw import exceptions
from glance_repl_mw.model import Wish
from glance_repl_mw.reconciler.tools import Stopping, Tools

LOG = log.getLogger(__name__)

_AFTER_AN_ERROR_SECONDS = 5.0
_PAUSE_SECONDS = 5.0


class Task(abc.ABC):
    """Work that is done again and again; blocks, and shares nothing with other tasks but rows.

    :ivar name: for the log
    """

    name: str

    def __init__(self, tools: Tools) -> None:
        self.tools = tools

    def rest(self, seconds: float) -> None:
        """Wait until it is time again.

        :raises Stopping:
        """
        self.tools.rest(seconds)

    @abc.abstractmethod
    def run_once(self) -> float:
        """Do what there is to do now; returns the seconds until the next time.

        :raises Stopping: the writer ends
        :raises ReplicationError: it is tried again after a while
        :raises oslo_db.exception.DBError: likewise
        :raises OSError: likewise
        """


class WokenTask(Task):
    """A task that is told when there may be something to do, and rarely looks for itself.

    :ivar lull_seconds: what it waits once it is woken, as more may come
    """

    lull_seconds = 0.0

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._woken = threading.Event()

    def wake(self) -> None:
        """There may be something to do; may be called by any thread."""
        self._woken.set()

    def rest(self, seconds: float) -> None:
        is_woken = self._woken.wait(seconds)
        self._woken.clear()
        self.tools.rest(self.lull_seconds if is_woken else 0)


@contextlib.contextmanager
def reporting(image_id: str) -> Iterator[None]:
    """Log what stands in the way of one image, and go on with the next."""
    try:
        yield
    except exceptions.ReplicationError as error:
        LOG.warning("Image %s is put off: %s", image_id, error)


def start(task: Task, target: str | None = None, pauses_for: Collection[Wish] = ()) -> None:
    """Run the task in a thread until the writer ends.

    :param target: the one that it is about
    :param pauses_for: wishes for the target during which nothing is done
    """
    threading.Thread(
        target=_run_forever, args=(task, target, pauses_for), name=task.name, daemon=True
    ).start()


def _run_forever(task: Task, target: str | None, pauses_for: Collection[Wish]) -> None:
    with contextlib.suppress(Stopping):
        while True:
            if not _run_and_rest(task, target, pauses_for):
                # Nor does what comes meanwhile bring the next one sooner.
                task.tools.rest(_AFTER_AN_ERROR_SECONDS)


def _run_and_rest(task: Task, target: str | None, pauses_for: Collection[Wish]) -> bool:
    """Whether it went well; returns when it is time again, or after an error at once.

    :raises Stopping:
    """
    try:
        if target is not None and task.tools.outlooks.now().wishes.get(target) in pauses_for:
            task.rest(_PAUSE_SECONDS)
        else:
            task.rest(task.run_once())
        return True
    except (exceptions.ReplicationError, oslo_db.exception.DBError, OSError) as error:
        LOG.warning("The %s is put off: %s", task.name, error)
    except Stopping:
        raise
    except Exception:
        LOG.exception("The %s failed", task.name)
    return False
