"""``/v2/images/{image_id}/replicas``: where an image is, for whoever may see the image."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import oslo_db.exception
import webob
import webob.exc
from oslo_config import cfg
from oslo_log import log
from oslo_policy import policy

from glance_repl_mw import policies
from glance_repl_mw.db import schema
from glance_repl_mw.db.store import ReplicaStore

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

LOG = log.getLogger(__name__)

_PATH = re.compile(r"/v2/images/([0-9a-fA-F-]{36})/replicas(?:/([^/]+))?/?")
_ADMINISTRATORS_ONLY = ("location_url", "error")


class ReplicaAPI:
    """Answers requests for replicas; used by any thread of an API process.

    :param application: the rest of the pipeline, which knows who may see which image
    """

    def __init__(self, conf: cfg.ConfigOpts, application: WSGIApplication) -> None:
        self._application = application
        self._store = ReplicaStore(schema.open_database(conf.replication.connection))
        self._enforcer = policy.Enforcer(conf)
        self._enforcer.register_defaults(policies.list_rules())

    @staticmethod
    def serves(path: str) -> bool:
        """Whether the path is one of ours; Glance never sees those."""
        return _PATH.fullmatch(path) is not None

    def respond(self, request: webob.Request) -> webob.Response:
        """The answer to a request for one of our paths; errors are answers too."""
        match = _PATH.fullmatch(request.path_info)
        if match is None:
            return webob.exc.HTTPNotFound()
        if request.method not in ("GET", "HEAD"):
            return webob.exc.HTTPMethodNotAllowed(headers={"Allow": "GET, HEAD"})
        image_id, target = match.group(1), match.group(2)
        unseen = self._why_unseen(request, image_id)
        if unseen is not None:
            return unseen
        if not self._may(request, policies.READ, image_id):
            return webob.exc.HTTPForbidden()
        try:
            replicas = self._store.replicas(image_id)
        except oslo_db.exception.DBError as error:
            LOG.error("The replicas of image %s cannot be read: %s", image_id, error)
            return webob.exc.HTTPServiceUnavailable(headers={"Retry-After": "5"})
        hidden = () if self._may(request, policies.READ_URLS, image_id) else _ADMINISTRATORS_ONLY
        views = [_without(replica.as_dict(), hidden) for replica in replicas]
        if target is None:
            return _json({"replicas": views})
        for view in views:
            if view["target"] == target:
                return _json(view)
        return webob.exc.HTTPNotFound(f"The image has no replica at target {target}.")

    def _why_unseen(self, request: webob.Request, image_id: str) -> webob.Response | None:
        """Glance's own answer to a caller who asks for the image, unless he may see it."""
        question = request.copy_get()
        question.path_info = f"/v2/images/{image_id}"
        question.query_string = ""
        answer = question.get_response(self._application)
        return None if answer.status_int == 200 else answer

    def _may(self, request: webob.Request, rule: str, image_id: str) -> bool:
        context = getattr(request, "context", None)
        return context is not None and self._enforcer.authorize(
            rule, {"image_id": image_id}, context.to_policy_values(), do_raise=False
        )


def _without(view: dict[str, Any], hidden: tuple[str, ...]) -> dict[str, Any]:
    return {name: None if name in hidden else value for name, value in view.items()}


def _json(body: dict[str, Any]) -> webob.Response:
    return webob.Response(json_body=body, content_type="application/json")
