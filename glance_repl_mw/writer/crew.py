# SPDX-License-Identifier: Apache-2.0
"""Who works for the jobs: the threads, the tools they use, and the way back to the main loop."""

from __future__ import annotations

import concurrent.futures
import datetime
import functools
import queue
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import oslo_db.exception
from oslo_config import cfg
from oslo_log import log
from oslo_utils import timeutils

from glance_repl_mw import exceptions
from glance_repl_mw.db.store import ReplicaStore
from glance_repl_mw.images import ImageService
from glance_repl_mw.model import ReplicaStatus
from glance_repl_mw.pace import Pace
from glance_repl_mw.reconciler.deletion_guard import DeletionGuard
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.targets.base import Target
from glance_repl_mw.writer import spare_time
from glance_repl_mw.writer.hasher import Hasher

LOG = log.getLogger(__name__)

_GLANCE_THREADS = 4
_JITTER = 0.2
_WEIGHT_OF_LAST = 0.2

Done = Callable[[Any, BaseException | None], None]


class Crew:
    """The pools, one for Glance and one for each target, so that none waits for another.

    ``at_glance`` and ``at_target`` are called by the main loop only; what they are given runs in a
    pool, and the outcome comes back to the main loop, which thereby owns all state.

    :param guard: what has to be asked before an object is deleted
    :param is_alone: no other node's writer shares the database
    :ivar request_seconds: what a request to Glance takes, a mean in which the last ones weigh most
    :ivar pools: by the name of each target; no more is written to it at once than these threads do
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        spool: Spool,
        store: ReplicaStore,
        targets: Mapping[str, Target],
        images: ImageService,
        guard: DeletionGuard,
        is_alone: bool = True,
    ) -> None:
        self.conf = conf
        self.guard = guard
        self.is_alone = is_alone
        self.spool = spool
        self.store = store
        self.targets = targets
        self.images = images
        give_way = spare_time.keep_to_it if conf.replication.writer_nice else None
        self.hasher = Hasher(give_way)
        self.paces = {
            name: Pace(target.conf.max_bytes_per_second) for name, target in targets.items()
        }
        self.events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.at_work = 0
        self.is_stopping = False
        self.request_seconds = 0.0
        self._unsaved: deque[Callable[[], int]] = deque()
        pool = concurrent.futures.ThreadPoolExecutor
        self._glance = pool(_GLANCE_THREADS, thread_name_prefix="glance")
        self.pools = {
            name: pool(target.conf.max_connections, f"target {name}", give_way)
            for name, target in targets.items()
        }

    def at_glance(self, work: Callable[[], Any], done: Done) -> None:
        """Do ``work`` in the pool for Glance; ``done`` gets its result and its error."""
        self._start(self._glance, functools.partial(self._timed, work), done)

    def at_target(self, target: str, work: Callable[[], Any], done: Done) -> None:
        """Do ``work`` in the target's own pool; ``done`` gets its result and its error."""
        self._start(self.pools[target], work, done)

    def _timed(self, work: Callable[[], Any]) -> Any:
        """Runs in the pool."""
        began = time.monotonic()
        try:
            return work()
        finally:
            more = time.monotonic() - began - self.request_seconds
            self.request_seconds += _WEIGHT_OF_LAST * more

    def _start(
        self, pool: concurrent.futures.Executor, work: Callable[[], Any], done: Done
    ) -> None:
        self.at_work += 1
        future = pool.submit(work)
        future.add_done_callback(
            lambda future: self.events.put(functools.partial(self._finished, done, future))
        )

    def _finished(self, done: Done, future: concurrent.futures.Future[Any]) -> None:
        self.at_work -= 1
        error = future.exception()
        done(None if error else future.result(), error)

    def save(
        self,
        upload_id: str,
        targets: Iterable[str],
        status: ReplicaStatus | None = None,
        **values: Any,
    ) -> int | None:
        """Store a change of rows; while the database fails, changes wait and keep their order.

        Returns how many rows were changed, None where the change waits.
        """
        self._unsaved.append(
            functools.partial(self.store.update, upload_id, list(targets), status, **values)
        )
        return self.save_again()

    @property
    def is_all_saved(self) -> bool:
        """Whether the rows say all that is known here."""
        return not self._unsaved

    def save_again(self) -> int | None:
        """Store what could not be stored before; returns as ``save`` for the last change."""
        changed = None
        while self._unsaved:
            try:
                changed = self._unsaved[0]()
            except oslo_db.exception.DBError as error:
                LOG.error("The state of %s changes waits: %s", len(self._unsaved), error)
                return None
            self._unsaved.popleft()
        return changed

    def pause_seconds(self, failures: int, error: BaseException | None = None) -> float:
        """How long to wait after so many failures in a row, the last of which was ``error``."""
        options = self.conf.replication
        longest = options.retry_max_seconds
        if isinstance(error, exceptions.TargetRefused):
            pause = longest
        else:
            pause = options.retry_initial_seconds * 2 ** min(failures - 1, 30)
        if isinstance(error, exceptions.TargetUnavailable):
            pause = max(pause, error.retry_after_seconds)
        pause = min(longest, pause)
        return float(pause) * (1 + _JITTER * random.random())

    def next_attempt(self, failures: int, error: BaseException | None = None) -> datetime.datetime:
        """When to try again, as ``next_attempt_at`` has it."""
        return timeutils.utcnow() + datetime.timedelta(seconds=self.pause_seconds(failures, error))
