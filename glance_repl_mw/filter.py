# SPDX-License-Identifier: Apache-2.0
"""The paste-deploy filter in the glance-api pipeline.

::

    [filter:replication]
    paste.filter_factory = glance_repl_mw.filter:filter_factory

It stands after ``context`` and before ``cache`` and ``rootapp``. It copies the body of every
``PUT /v2/images/{image_id}/file`` and ``.../stage`` to the spool while Glance reads it, and
records Glance's answer there before the uploader sees it. On the way of an upload it opens no
connection and no database, and whatever fails in the spool leaves the upload alone. Only then, and
only with a ``write_concern``, the answer waits for replicas.

Requests that change an image's record pass one at a time, and leave word of the image in the
spool. With a ``local_target``, whole images that are downloaded are copied to the spool as well,
or are read at that target where it has them.
``/v2/images/{image_id}/replicas`` it answers itself. Everything else passes untouched.

With ``config_file = PATH`` in its section the options are read from that file, else from Glance's
own configuration.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import webob
import webob.exc
from oslo_config import cfg
from oslo_log import log
from oslo_middleware import base

from glance_repl_mw import (
    bodies,
    extras,
    imagecache,
    images,
    nodes,
    opts,
    patches,
    policies,
    proxying,
    routes,
)
from glance_repl_mw.api import ReplicaAPI
from glance_repl_mw.attempt import Attempt
from glance_repl_mw.concern import AnswerHold
from glance_repl_mw.db import schema
from glance_repl_mw.db.nearby import NearbyReplicas
from glance_repl_mw.db.patience import Patience
from glance_repl_mw.db.store import ReplicaStore
from glance_repl_mw.db.wishes import TargetWishes
from glance_repl_mw.download import Downloads
from glance_repl_mw.inquiry import record_request
from glance_repl_mw.launcher import WriterLauncher
from glance_repl_mw.locking import ImageLocks, NodeImageLocks
from glance_repl_mw.own_requests import NO_CACHE, OwnRequests
from glance_repl_mw.sizes import size_of
from glance_repl_mw.spare_threads import SpareThreads
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.spool.upload import Origin
from glance_repl_mw.targets import loader

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

LOG = log.getLogger(__name__)

# A download waits no longer for a database that is silent.
_NEARBY_SECONDS = 1.0
# A change with a longer body is left to Glance alone; without locations none is.
_MOST_READ_AHEAD_BYTES = 1024**2
_NOT_NOW = webob.exc.HTTPServiceUnavailable(
    "The image's locations cannot be changed safely now: its lock cannot be had.",
    headers=[("Retry-After", "5")],
)


class ReplicationFilter(base.ConfigurableMiddleware):
    """Tees uploads to the spool and keeps the embedded writer alive.

    :raises ConfigError: the configuration cannot work; names section and option
    """

    def __init__(self, application: WSGIApplication, conf: Any = None) -> None:
        super().__init__(application, conf)
        self._application = application
        if "config_file" in self.conf:
            self.oslo_conf = cfg.ConfigOpts()
            self.oslo_conf([], default_config_files=[self.conf["config_file"]])
        opts.register_opts(self.oslo_conf)
        loader.check_values(self.oslo_conf)
        targets = loader.load_targets(self.oslo_conf)
        loader.check_local_target(self.oslo_conf, targets)
        self._has_targets = bool(targets)
        options = self.oslo_conf.replication
        self._spool = Spool(
            options.spool_dir, options.spool_max_bytes, options.spool_min_free_bytes
        )
        self._spool.prepare()
        self._own = OwnRequests(self.oslo_conf)
        bodies.wrap_server()
        self._locks = _image_locks(options.coordination_url, self._spool.directory)
        self._launcher: WriterLauncher | None = None
        if options.writer == "embedded":
            # The writer's own complaint about its credentials would be far from the start.
            images.ImageService(self.oslo_conf)
            self._launcher = WriterLauncher(self.oslo_conf)
            self._launcher.start_early()
        database = schema.open_database(options.connection)
        enforcer = policies.enforcer(self.oslo_conf)
        self._threads = SpareThreads(_most_waiting(options))
        self._api = ReplicaAPI(
            self.oslo_conf, application, self._spool, database, enforcer, self._threads
        )
        store = ReplicaStore(database)
        self._downloads: Downloads | None = None
        if options.local_target:
            wishes = TargetWishes(database)
            nearby = NearbyReplicas(database, Patience(_NEARBY_SECONDS))
            self._downloads = Downloads(
                self.oslo_conf, application, self._spool, store, wishes, nearby
            )
        self._hold = AnswerHold(
            self.oslo_conf, application, self._spool, store, enforcer, self._threads
        )
        self._unrecorded: collections.deque[tuple[str, str]] = collections.deque()

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if self._launcher is not None:
            self._launcher.ensure_started()
        if self._unrecorded:
            self._record_again()
        self._threads.learn(environ)
        is_own = self._own.recognise(environ)
        if self._api.serves(routes.path_of(environ)):
            request = base.NoContentTypeRequest(environ)
            answer: Iterable[bytes] = self._api.respond(request)(environ, start_response)
            return answer
        action = self._action(environ)
        if action is None:
            return self._application(environ, start_response)
        if action.saves_record:
            return self._pass_change(action, environ, start_response, is_own)
        if action.origin is not None and self._has_targets:
            return self._tee_upload(action.image_id, action.origin, environ, start_response)
        if action.is_download and is_own:
            return self._serve_own(environ, start_response)
        if action.is_download and self._downloads:
            return self._downloads.serve(action.image_id, environ, start_response)
        return self._application(environ, start_response)

    def _action(self, environ: dict[str, Any]) -> routes.Action | None:
        """What the request does, to the image of the id that Glance has.

        Some databases find an image whatever capitals its id is given in, or blanks behind it.
        Only such a request, as no usual client sends it, costs a look at Glance's record.
        """
        action = routes.action_in(environ)
        if action is None or routes.is_usual_id(action.image_id):
            return action
        request = record_request(webob.Request(environ), action.image_id)
        with contextlib.suppress(Exception):
            answer = request.get_response(self._application)
            if answer.status_int == 200 and routes.is_id(answer.json["id"]):
                return dataclasses.replace(action, image_id=answer.json["id"])
        return action if routes.is_id(action.image_id) else None

    def _serve_own(
        self, environ: dict[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        """A download of the writer, who may want to know whether a location can be read."""
        if environ.get("HTTP_CACHE_CONTROL") != NO_CACHE:
            return self._application(environ, start_response)
        with imagecache.passed_by():
            return self._application(environ, start_response)

    def _tee_upload(
        self,
        image_id: str,
        origin: Origin,
        environ: dict[str, Any],
        start_response: StartResponse,
    ) -> Iterable[bytes]:
        attempt = Attempt(self._spool, image_id, _announced_size(environ), origin)
        is_upload = origin is Origin.UPLOAD
        question = self._hold.question(environ, image_id) if is_upload else None
        try:
            with bodies.copied(environ, attempt.append):
                response = base.NoContentTypeRequest(environ).get_response(self._application)
        except BaseException:
            attempt.reject()
            raise
        if 200 <= response.status_int < 300:
            unspooled = attempt.accept()
            # An image whose staged bytes are not here is found when its import has ended.
            if unspooled and is_upload:
                self._unrecorded.append((image_id, unspooled))
                self._record_again()
            elif is_upload and attempt.upload_id:
                self._hold.keep(response, image_id, attempt.upload_id, question)
        else:
            attempt.reject()
        answer: Iterable[bytes] = response(environ, start_response)
        return answer

    def _pass_change(
        self,
        action: routes.Action,
        environ: dict[str, Any],
        start_response: StartResponse,
        is_own: bool,
    ) -> Iterable[bytes]:
        response = self._changed(action, environ)
        was_deleted = action.has_deleted(environ)
        # Nobody but Glance knows which images are deleted, and by whom.
        is_news = was_deleted or not is_own
        if 200 <= response.status_int < 300 and is_news:
            self._note(action.image_id, was_deleted)
        answer: Iterable[bytes] = response(environ, start_response)
        return answer

    def _changed(self, action: routes.Action, environ: dict[str, Any]) -> webob.Response:
        """Glance's answer to a change, which holds the image's lock meanwhile."""
        request = base.NoContentTypeRequest(environ)
        if not action.has_body:
            with self._locks.hold(action.image_id):
                return request.get_response(self._application)
        # Others must not wait for a client that sends slowly.
        with bodies.read_ahead(environ, _MOST_READ_AHEAD_BYTES) as body:
            if body is None:
                return request.get_response(self._application)
            with self._locks.hold(action.image_id) as is_held:
                if not is_held and self._locks.is_shared and patches.changes_locations(body):
                    # What another node adds now and what this adds could drop each other.
                    return _NOT_NOW
                return request.get_response(self._application)

    def _note(self, image_id: str, was_deleted: bool) -> None:
        """Leave word of a change; without it the change is found later."""
        try:
            self._spool.note(image_id, was_deleted=was_deleted)
        except OSError as error:
            LOG.warning("Image %s: a change cannot be noted: %s", image_id, error)

    def _record_again(self) -> None:
        """Leave word of images without a tee; what cannot be written waits in memory."""
        for _ in range(len(self._unrecorded)):
            try:
                image_id, error = self._unrecorded.popleft()
            except IndexError:
                return
            try:
                self._spool.record_unspooled(image_id, error)
            except OSError:
                self._unrecorded.append((image_id, error))
                return


def _most_waiting(options: cfg.ConfigOpts.GroupAttr) -> int:
    """How many requests of a process the options let wait at once."""
    uploads = options.write_concern_max_waiting if options.write_concern != "none" else 0
    waiting: int = options.api_max_waiters + uploads
    return waiting


def _image_locks(coordination_url: str, spool: pathlib.Path) -> ImageLocks:
    if not coordination_url:
        return NodeImageLocks(spool)
    with extras.required_by("coordination_url", "redis", "etcd"):
        from glance_repl_mw import coordination

    coordination.check_url(coordination_url)
    proxying.wrap_glance()
    return coordination.SharedImageLocks(coordination_url, nodes.node_name(spool))


def _announced_size(environ: dict[str, Any]) -> int | None:
    announced = size_of(environ.get("HTTP_X_OPENSTACK_IMAGE_SIZE"))
    # The length of a body in chunks is what nobody goes by.
    length = None if bodies.is_chunked(environ) else size_of(environ.get("CONTENT_LENGTH"))
    return announced if length is None else length


def filter_factory(
    global_conf: dict[str, Any] | None, **local_conf: Any
) -> Callable[[WSGIApplication], ReplicationFilter]:
    """For paste.deploy: returns what wraps an application in the filter."""
    return ReplicationFilter.factory(global_conf, **local_conf)
