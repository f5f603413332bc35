# SPDX-License-Identifier: Apache-2.0
"""Events about replicas on the message bus, as Glance sends its own: ``image.replica.active``.

They tell what the database says already. None is promised to arrive; replication waits for none.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_log import log

from glance_repl_mw.model import Replica, ReplicaStatus

LOG = log.getLogger(__name__)

_GROUP = "image"
_EVENTS = {
    status: f"{_GROUP}.replica.{status}"
    for status in (ReplicaStatus.ACTIVE, ReplicaStatus.ERROR, ReplicaStatus.DELETED)
}
_TOLD = (
    "image_id",
    "target",
    "status",
    "size",
    "checksum",
    "attempts",
    "error",
    "next_attempt_at",
    "created_at",
    "updated_at",
)
# Glance's own, which tell who says it, and what nobody wants to hear.
_OPTIONS = (
    cfg.StrOpt("default_publisher_id", default="image.localhost"),
    cfg.ListOpt("disabled_notifications", default=[]),
)
_MOST_WAITING = 1000
_ATTEMPTS = 3
_COMPLAINT_SECONDS = 60.0

_Event = tuple[str, dict[str, Any]]


class Notifications:
    """Sends events from a thread of its own; a broker that is away slows nobody.

    What cannot be sent in a few attempts is lost, and so is what happens while 1000 events wait;
    the log says so.

    :param conf: with Glance's options ``transport_url`` and ``[oslo_messaging_notifications]``
    :raises oslo_messaging.MessagingException: no messages can be sent with this configuration
    :raises ValueError: likewise
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        conf.register_opts(_OPTIONS)
        oslo_messaging.set_transport_defaults("glance")
        transport = oslo_messaging.get_notification_transport(conf)
        conf.set_default("retry", _ATTEMPTS, group="oslo_messaging_notifications")
        self._notifier = oslo_messaging.Notifier(transport, conf.default_publisher_id)
        if not conf.oslo_messaging_notifications.driver:
            LOG.warning("[oslo_messaging_notifications] driver is empty: no events are sent")
        disabled = set(conf.disabled_notifications)
        self._enabled = {
            status: event
            for status, event in _EVENTS.items()
            if not disabled & {event, _GROUP, f"{_GROUP}.replica"}
        }
        self._waiting: queue.Queue[_Event | None] = queue.Queue(_MOST_WAITING)
        self._lost = 0
        self._complain_at = 0.0
        self._thread = threading.Thread(target=self._send_all, name="notifications", daemon=True)

    def start(self, look: Callable[[str], Iterable[Replica]]) -> None:
        """Begin to send.

        :param look: gives the replicas of an image that count, one for each target
        """
        self._look = look
        self._thread.start()

    def changed(self, before: Replica, after: Replica) -> None:
        """A row was changed; may be called by any thread, returns at once and raises nothing."""
        event = self._enabled.get(after.status)
        if event is None or not _is_news(before, after):
            return
        known = after.as_dict()
        try:
            self._waiting.put_nowait((event, {name: known[name] for name in _TOLD}))
        except queue.Full:
            self._lose(after)

    def finish(self, seconds: float) -> None:
        """Send what waits, for at most so long; afterwards no change is told."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=seconds)
        self._thread.join(deadline - time.monotonic())

    def _send_all(self) -> None:
        while (event := self._waiting.get()) is not None:
            try:
                self._send(*event)
            except Exception:
                LOG.exception("An event about image %s is lost", event[1]["image_id"])

    def _send(self, event: str, payload: dict[str, Any]) -> None:
        if payload["status"] == ReplicaStatus.DELETED and self._is_replaced(payload):
            return
        is_error = payload["status"] == ReplicaStatus.ERROR
        (self._notifier.error if is_error else self._notifier.info)({}, event, payload)

    def _is_replaced(self, payload: dict[str, Any]) -> bool:
        """Whether the image has a newer replica at the target, or is getting one."""
        return any(
            replica.target == payload["target"] and replica.status is not ReplicaStatus.DELETED
            for replica in self._look(payload["image_id"])
        )

    def _lose(self, replica: Replica) -> None:
        self._lost += 1
        if time.monotonic() < self._complain_at:
            return
        self._complain_at = time.monotonic() + _COMPLAINT_SECONDS
        LOG.error(
            "Events are lost, %s up to now, the last one of image %s at target %s: too many wait",
            self._lost,
            replica.image_id,
            replica.target,
        )


def _is_news(before: Replica, after: Replica) -> bool:
    """Whether the status is another one; each failed attempt is told."""
    has_failed_again = after.status is ReplicaStatus.ERROR and after.attempts > before.attempts
    return after.status is not before.status or has_failed_again
