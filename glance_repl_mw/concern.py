# SPDX-License-Identifier: Apache-2.0
"""Holds back Glance's answer to an upload until so many replicas are active.

The answer stays Glance's own, with one header more::

    X-Replication-Status: active=2/3

that is, of three replicas which the image is to have, two are locations of it. The header is
missing where nothing could be learnt: the spool does not hold the upload, the database is away, no
writer has seen the upload in time, or too many requests wait already.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import oslo_db.exception
import webob
from oslo_config import cfg
from oslo_log import log
from oslo_policy import policy

from glance_repl_mw import policies
from glance_repl_mw.background import in_background
from glance_repl_mw.db.store import ReplicaStore
from glance_repl_mw.foreign_text import printable
from glance_repl_mw.inquiry import record_request
from glance_repl_mw.model import CLOSED, Replica, ReplicaStatus
from glance_repl_mw.spare_threads import SpareThreads
from glance_repl_mw.spool.directory import Spool

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

LOG = log.getLogger(__name__)

HEADER = "X-Replication-Status"
PROPERTY = "replication_write_concern"
_POLL_SECONDS = 0.2


class WriteConcern(enum.StrEnum):
    """How many of the replicas that an image is to have an upload waits for."""

    NONE = "none"
    QUORUM = "quorum"
    ALL = "all"

    def share_of(self, replicas: int) -> int:
        """How many of so many replicas must be active."""
        if self is WriteConcern.ALL:
            return replicas
        return replicas // 2 + 1 if self is WriteConcern.QUORUM else 0


@dataclasses.dataclass(frozen=True)
class Standing:
    """How far the replicas of one image are.

    :ivar hopeful: those that are active, or can become so without anybody's help
    """

    active: int
    hopeful: int
    total: int

    def is_final(self, concern: WriteConcern) -> bool:
        """Whether enough replicas are active, or never will be."""
        wanted = concern.share_of(self.total)
        return self.active >= wanted or self.hopeful < wanted


class AnswerHold:
    """Makes uploaders wait, each in the thread that serves the upload.

    :param application: the rest of the pipeline, which knows the image's properties
    :param threads: those that may wait
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        application: WSGIApplication,
        spool: Spool,
        store: ReplicaStore,
        enforcer: policy.Enforcer,
        threads: SpareThreads,
    ) -> None:
        self._concern = WriteConcern(conf.replication.write_concern)
        self._timeout_seconds = conf.replication.write_concern_timeout_seconds
        # If all threads of Glance waited, none would serve the writer, for which they wait.
        self._places = threading.BoundedSemaphore(conf.replication.write_concern_max_waiting)
        self._application = application
        self._spool = spool
        self._store = store
        self._enforcer = enforcer
        self._threads = threads

    def question(self, environ: dict[str, Any], image_id: str) -> webob.Request | None:
        """The request for the image's record, where the uploader may choose the concern in it.

        To be asked for before Glance gets the upload, since Glance changes ``environ``. Raises
        nothing: a policy file that is broken must not fail an upload.
        """
        request = webob.Request(environ)
        try:
            if not self._may_choose(request, image_id):
                return None
        except Exception:
            LOG.exception("Image %s: the policy of its write concern cannot be asked", image_id)
            return None
        return record_request(request, image_id)

    def keep(
        self,
        response: webob.Response,
        image_id: str,
        upload_id: str,
        question: webob.Request | None,
    ) -> None:
        """Block until enough replicas are active or the time is over; then add the header.

        Raises nothing: Glance has accepted the image.

        :param response: Glance's answer to the upload
        :param question: what ``question`` has returned
        """
        try:
            concern = self._chosen(image_id, question) or self._concern
            if concern is WriteConcern.NONE:
                return
            with self._place() as has_place:
                if not has_place:
                    LOG.warning("Image %s: too many uploads wait for replicas already", image_id)
                    return
                standing = self._wait(image_id, upload_id, concern)
        except Exception:
            LOG.exception("Image %s: its replicas are not waited for", image_id)
            return
        if standing is not None:
            response.headers[HEADER] = f"active={standing.active}/{standing.total}"

    @contextlib.contextmanager
    def _place(self) -> Iterator[bool]:
        """Gives whether the upload may wait."""
        if not self._places.acquire(blocking=False):
            yield False
            return
        try:
            is_spare = self._threads.take()
            try:
                yield is_spare
            finally:
                if is_spare:
                    self._threads.give_back()
        finally:
            self._places.release()

    def _may_choose(self, request: webob.Request, image_id: str) -> bool:
        context = getattr(request, "context", None)
        return context is not None and self._enforcer.authorize(
            policies.OVERRIDE_WRITE_CONCERN,
            {"image_id": image_id},
            context.to_policy_values(),
            do_raise=False,
        )

    def _chosen(self, image_id: str, question: webob.Request | None) -> WriteConcern | None:
        """The concern that the image's property names, if the uploader may choose it."""
        if question is None:
            return None
        answer = question.get_response(self._application)
        value = answer.json.get(PROPERTY) if answer.status_int == 200 else None
        if value is None:
            return None
        try:
            return WriteConcern(value)
        except ValueError:
            LOG.warning("Image %s: %s is ignored: %s", image_id, PROPERTY, printable(str(value)))
            return None

    def _wait(self, image_id: str, upload_id: str, concern: WriteConcern) -> Standing | None:
        """How far the replicas are when the wait is over; None where that is not known."""
        end = time.monotonic() + self._timeout_seconds
        known: Standing | None = None
        while True:
            is_spooled = self._spool.sidecar_path(upload_id).exists()
            # The database may be away for longer than the wait may last.
            answer = in_background(functools.partial(self._standing, image_id))
            try:
                standing = answer.result(max(0.0, end - time.monotonic()))
            except TimeoutError:
                return known
            except oslo_db.exception.DBError as error:
                LOG.error("Image %s: its replicas cannot be waited for: %s", image_id, error)
                return known
            # Without rows the writer is yet to see the upload, or no target wants it.
            if standing.total or not is_spooled:
                known = standing
                if standing.is_final(concern):
                    return known
            if end - time.monotonic() < _POLL_SECONDS:
                return known
            time.sleep(_POLL_SECONDS)

    def _standing(self, image_id: str) -> Standing:
        try:
            return _standing_of(self._store.replicas(image_id))
        except oslo_db.exception.DBNonExistentTable:
            # The first writer is just making the tables.
            return _standing_of([])


def _standing_of(replicas: Sequence[Replica]) -> Standing:
    wanted = [replica for replica in replicas if replica.status not in CLOSED]
    return Standing(
        active=sum(replica.status is ReplicaStatus.ACTIVE for replica in wanted),
        hopeful=sum(not _is_hopeless(replica) for replica in wanted),
        total=len(wanted),
    )


def _is_hopeless(replica: Replica) -> bool:
    return replica.status is ReplicaStatus.ERROR and replica.next_attempt_at is None
