# SPDX-License-Identifier: Apache-2.0
"""Fills the target of this node's site with images that are downloaded here.

A complete ``GET /v2/images/{image_id}/file`` is copied to the spool while the client takes it,
where ``local_target`` names a target that has no replica of the image yet. The image is not read a
second time. What the spool holds then is for the writer, which proves it against Glance's record
as it does with every upload. Where the target has a replica, Glance reads that one first.

The client waits for one look into the database before Glance begins, and at most a second where it
is silent. Whatever fails afterwards ends the copying alone.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import oslo_db.exception
import webob
from oslo_config import cfg
from oslo_log import log

from glance_repl_mw import exceptions, nearest, nodes
from glance_repl_mw.background import in_background
from glance_repl_mw.db.nearby import NearbyReplicas
from glance_repl_mw.db.store import ReplicaStore
from glance_repl_mw.db.wishes import TargetWishes
from glance_repl_mw.routes import ROUTED
from glance_repl_mw.sizes import size_of
from glance_repl_mw.spool.appender import Appender
from glance_repl_mw.spool.behind import WriteBehind
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.spool.upload import Origin, UploadState
from glance_repl_mw.tee import TeeBody

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

LOG = log.getLogger(__name__)

_EARLY_BYTES = 8 * 1024**2
_ROOM_CHECK_BYTES = 16 * 1024**2
_PATIENCE_SECONDS = 1.0
# A spool that is slower than the client's line would hold the client up.
_TOLERATED_SECONDS = 1.0
_TOLERATED_SHARE = 0.5


class _SpoolTooSlow(Exception):
    """The client waits for the spool."""


class Downloads:
    """Serves downloads at the local target's site; used by any thread of an API process.

    :param nearby: what Glance may read at the local target
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        application: WSGIApplication,
        spool: Spool,
        store: ReplicaStore,
        wishes: TargetWishes,
        nearby: NearbyReplicas,
    ) -> None:
        self._target = conf.replication.local_target
        self._crowded_percent = conf.replication.spool_hand_over_percent
        self._application = application
        self._spool = spool
        self._store = store
        self._wishes = wishes
        self._nearby = nearby
        self._node = nodes.node_name(spool.directory)
        nearest.wrap_glance()

    def serve(
        self, image_id: str, environ: dict[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        """Let Glance answer, from the target where that has the image.

        The body is copied where it is the whole image and the target lacks it. Parts of an image
        are left to Glance, which reads none from a store for HTTP.
        """
        if "HTTP_RANGE" in environ or "HTTP_CONTENT_RANGE" in environ:
            return self._application(environ, start_response)
        url = self._nearby_url(image_id)
        if url is None:
            return self._serve_and_copy(image_id, environ, start_response)
        with nearest.preferring(url):
            return self._application(environ, start_response)

    def _nearby_url(self, image_id: str) -> str | None:
        try:
            return self._nearby.url(image_id, self._target, self._node)
        except oslo_db.exception.DBError as error:
            LOG.warning("Image %s: it is not read at %s: %s", image_id, self._target, error)
            return None

    def _serve_and_copy(
        self, image_id: str, environ: dict[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        is_wanted = in_background(functools.partial(self._is_wanted, image_id))
        request = webob.Request(environ)
        body: Iterable[bytes]
        status, headers, body = request.call_application(self._application)
        start_response(status, headers)
        found = {name.lower(): value for name, value in headers}
        is_glances = ROUTED in environ and _is_whole(status, found)
        if not is_glances or self._is_coming(image_id):
            return body
        filling = Filling(
            self._spool, image_id, self._target, _size(found), is_wanted, self._crowded_percent
        )
        return TeeBody(body, filling.append, filling.end)

    def _is_wanted(self, image_id: str) -> bool:
        """Runs in the background: whether the target is to have a replica and lacks it."""
        if self._target in self._wishes.all():
            return False
        return self._store.lacks(image_id, self._target)

    def _is_coming(self, image_id: str) -> bool:
        """Whether the spool of this node has, or gets, the image for the target already."""
        try:
            return any(
                upload.image_id == image_id
                and upload.state is not UploadState.REJECTED
                and (upload.targets is None or self._target in upload.targets)
                for upload in self._spool.uploads()
            )
        except OSError as error:
            LOG.warning("Image %s: its download is not copied: %s", image_id, error)
            return True


class Filling:
    """The bytes of one download on their way into the spool; owned by the thread that serves it.

    The first pieces are kept in memory until it is known whether they are wanted. Whatever fails
    is logged and ends it; nothing is raised.

    :param size: bytes of the whole image, None where that is not known
    :param is_wanted: whether the target lacks the image
    :param crowded_percent: the share of the spool's room from which on it is left to uploads
    """

    def __init__(
        self,
        spool: Spool,
        image_id: str,
        target: str,
        size: int | None,
        is_wanted: Future[bool],
        crowded_percent: int,
    ) -> None:
        self._spool = spool
        self._image_id = image_id
        self._target = target
        self._size = size
        self._is_wanted = is_wanted
        self._crowded_percent = crowded_percent
        self._early: list[bytes] = []
        self._received = 0
        self._began_at = time.monotonic()
        self._spent_seconds = 0.0
        self._check_at = _ROOM_CHECK_BYTES
        self._appender: WriteBehind | None = None
        self._is_over = False

    def append(self, data: bytes) -> None:
        """Take what the client gets."""
        if self._is_over:
            return
        try:
            if self._is_wanted.done() and not self._is_wanted.result():
                self._drop()
                return
            self._early.append(data)
            self._received += len(data)
            if self._is_wanted.done() or self._received >= _EARLY_BYTES:
                self._spool_in_time()
        except Exception as error:
            self._fail(error)

    def end(self, is_complete: bool) -> None:
        """Hand the image to the writer, if the client got all of it, else forget it."""
        if self._is_over:
            return
        try:
            # The client has its bytes, and waits for nothing any more.
            is_whole = is_complete and self._size in (None, self._received)
            if is_whole and self._is_wanted.result(_PATIENCE_SECONDS):
                self._spool_early().accept()
                self._is_over = True
            else:
                self._drop()
        except Exception as error:
            self._fail(error)

    def _spool_in_time(self) -> None:
        before = time.monotonic()
        self._spool_early()
        now = time.monotonic()
        self._spent_seconds += now - before
        tolerated = max(_TOLERATED_SECONDS, _TOLERATED_SHARE * (now - self._began_at))
        if self._spent_seconds > tolerated:
            raise _SpoolTooSlow("the spool is slower than the download")

    def _spool_early(self) -> WriteBehind:
        if self._appender is None:
            self._require_room(max(self._size or 0, self._received))
            appender = Appender(
                self._spool,
                self._image_id,
                self._size,
                Origin.DOWNLOAD,
                targets=[self._target],
            )
            self._appender = WriteBehind(appender)
        elif self._received >= self._check_at:
            self._check_at += _ROOM_CHECK_BYTES
            self._require_room(max(0, (self._size or 0) - self._received))
        for data in self._early:
            self._appender.append(data)
        self._early = []
        return self._appender

    def _require_room(self, more_bytes: int) -> None:
        if self._spool.is_crowded(self._crowded_percent, more_bytes):
            raise exceptions.SpoolFull(operation="spool", hint="the room is left to uploads")

    def _fail(self, error: Exception) -> None:
        LOG.warning("Image %s: its download is not copied: %s", self._image_id, error)
        try:
            self._drop()
        except OSError as another:
            LOG.warning("Image %s: a broken spool file stays: %s", self._image_id, another)

    def _drop(self) -> None:
        self._is_over = True
        self._early = []
        if self._appender is not None:
            self._appender.discard()


def _is_whole(status: str, headers: Mapping[str, str]) -> bool:
    """Whether the answer holds a whole image, as it is."""
    if not status.startswith("200 ") or headers.get("content-length") == "0":
        return False
    return "content-range" not in headers and "content-encoding" not in headers


def _size(headers: Mapping[str, str]) -> int | None:
    """The bytes of the answer; the image cache loses their number of what it keeps."""
    return size_of(headers.get("content-length"))
