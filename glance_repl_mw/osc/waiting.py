# SPDX-License-Identifier: Apache-2.0
"""Waits until replicas are active, several at once, and tells what comes of each."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from keystoneauth1 import exceptions as keystone_exceptions

from glance_repl_mw.osc.rest import Answer, ReplicaService, Unavailable

Replica = dict[str, Any]

_PAUSE_SECONDS = 1.0
_LONGEST_ABSENCE_SECONDS = 60.0
_OUTAGES = (Unavailable, keystone_exceptions.ConnectFailure)


class Ending(NamedTuple):
    """How a wait has ended.

    :ivar replica: as it was last seen
    :ivar problem: why it is not active, None where it is
    """

    replica: Replica
    problem: str | None = None


class Patience(NamedTuple):
    """How long to wait, in seconds.

    :ivar limit: for the whole wait; None for as long as it takes, but not beyond a failed attempt
    :ivar step: the longest wait for one answer of the service
    """

    limit: float | None
    step: float


class _Watch:
    """Waits for one replica, in a thread of its own."""

    def __init__(
        self, service: ReplicaService, patience: Patience, show: Callable[[Replica], None]
    ) -> None:
        self._service = service
        self._patience = patience
        self._show = show
        limit = math.inf if patience.limit is None else patience.limit
        self._deadline = time.monotonic() + limit

    def run(self, first: Replica) -> Ending:
        """Wait from the given state on; lets through what the service raises."""
        replica = first
        while True:
            self._show(replica)
            if replica["status"] == "active":
                return Ending(replica)
            problem = self._why_hopeless(replica, first) or self._why_over(replica)
            if problem:
                return Ending(replica, problem)
            replica = self._next(replica)

    def _why_hopeless(self, replica: Replica, first: Replica) -> str | None:
        status = replica["status"]
        if status in ("deleting", "deleted"):
            return f"it is {status}"
        if status != "error":
            return None
        reason = replica["error"] or "the attempt failed"
        if replica["next_attempt_at"] is None:
            return f"{reason}; it is not tried again"
        if self._patience.limit is None and replica["attempts"] > first["attempts"]:
            return f"{reason}; it is tried again at {replica['next_attempt_at']}"
        return None

    def _why_over(self, replica: Replica) -> str | None:
        if time.monotonic() < self._deadline:
            return None
        reason = f": {replica['error']}" if replica["error"] else ""
        return f"still {replica['status']} after {self._patience.limit:g} seconds{reason}"

    def _next(self, replica: Replica) -> Replica:
        """The state after the service has waited, or after a pause where it did not."""
        asked_at = time.monotonic()
        wait = min(self._patience.step, self._deadline - asked_at)
        answer = self._ask(replica, math.ceil(wait))
        is_news = answer.replica != replica
        pause = answer.retry_after_seconds or (0.0 if is_news else _PAUSE_SECONDS)
        if answer.replica["status"] != "active":
            ready_at = min(asked_at + pause, self._deadline)
            time.sleep(max(0.0, ready_at - time.monotonic()))
        return answer.replica

    def _ask(self, replica: Replica, wait_seconds: int) -> Answer:
        """Ask until there is an answer; a service that is restarted is soon back."""
        give_up_at = min(time.monotonic() + _LONGEST_ABSENCE_SECONDS, self._deadline)
        while True:
            try:
                return self._service.replica(replica["image_id"], replica["target"], wait_seconds)
            except _OUTAGES as error:
                pause = getattr(error, "retry_after_seconds", 0.0) or _PAUSE_SECONDS
                if time.monotonic() + pause > give_up_at:
                    raise
                time.sleep(pause)


def wait_for_all(
    service: ReplicaService,
    replicas: Mapping[str, Replica],
    patience: Patience,
    show: Callable[[Replica], None],
) -> dict[str, Ending]:
    """Wait until each of the replicas, given by target, is active or will not become so.

    ``show`` is called in the caller's thread with every state that was seen. A wait that the
    service ends with an error ends with that as its problem; Ctrl-C ends all.
    """
    news: queue.SimpleQueue[Replica | Ending] = queue.SimpleQueue()

    def watch(first: Replica) -> None:
        try:
            news.put(_Watch(service, patience, news.put).run(first))
        except Exception as error:
            news.put(Ending(first, str(error)))

    for replica in replicas.values():
        threading.Thread(target=watch, args=(replica,), daemon=True).start()
    endings: dict[str, Ending] = {}
    while len(endings) < len(replicas):
        item = news.get()
        if isinstance(item, Ending):
            endings[item.replica["target"]] = item
        else:
            show(item)
    return endings
