"""Runs the reconciler's tasks, each in a thread of its own."""

from __future__ import annotations

import abc
import threading

import oslo_db.exception
from oslo_log import log

from glance_repl_mw import exceptions
from glance_repl_mw.reconciler.tools import Stopping, Tools

LOG = log.getLogger(__name__)

_AFTER_AN_ERROR_SECONDS = 5.0


class Task(abc.ABC):
    """Work that is done again and again; blocks, and shares nothing with other tasks but rows.

    :ivar name: for the log
    """

    name: str

    def __init__(self, tools: Tools) -> None:
        self.tools = tools

    @abc.abstractmethod
    def run_once(self) -> float:
        """Do what there is to do now; returns the seconds until the next time.

        :raises Stopping: the writer ends
        :raises ReplicationError: it is tried again after a while
        :raises oslo_db.exception.DBError: likewise
        :raises OSError: likewise
        """


def start(task: Task) -> threading.Thread:
    """Run the task in a thread until the writer ends."""
    thread = threading.Thread(target=_run_forever, args=(task,), name=task.name, daemon=True)
    thread.start()
    return thread


def _run_forever(task: Task) -> None:
    while True:
        try:
            task.tools.rest(_run_once(task))
        except Stopping:
            return


def _run_once(task: Task) -> float:
    try:
        return task.run_once()
    except (exceptions.ReplicationError, oslo_db.exception.DBError, OSError) as error:
        LOG.warning("The %s is put off: %s", task.name, error)
    except Stopping:
        raise
    except Exception:
        LOG.exception("The %s failed", task.name)
    return _AFTER_AN_ERROR_SECONDS
