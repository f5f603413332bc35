# SPDX-License-Identifier: Apache-2.0
"""The replicas of all images, page by page."""

from __future__ import annotations

from collections.abc import Mapping
from urllib import parse

import webob
import webob.exc

from glance_repl_mw import policies
from glance_repl_mw.db.catalogue import ReplicaCatalogue
from glance_repl_mw.model import ReplicaStatus
from glance_repl_mw.rest.answers import json, refused
from glance_repl_mw.rest.beginning import or_nothing
from glance_repl_mw.rest.questions import is_target_name, parameters, whole_number
from glance_repl_mw.rest.replicas import ADMINISTRATORS_ONLY
from glance_repl_mw.rest.rights import Rights

PATH = "/v2/replication/replicas"
# As Glance's own lists by default.
_LIMIT = 25
_MOST = 1000
_PARAMETERS = ("status", "target", "limit", "marker")


class Listing:
    """Answers requests for ``/v2/replication/replicas``."""

    def __init__(self, catalogue: ReplicaCatalogue, rights: Rights) -> None:
        self._catalogue = catalogue
        self._rights = rights

    def answer(self, request: webob.Request) -> webob.Response:
        """A page of replicas, with the paths of the first and the next page."""
        self._rights.demand(request, policies.LIST, {})
        asked = parameters(request, _PARAMETERS)
        limit = min(whole_number(asked, "limit", _LIMIT), _MOST)
        status, target = _status(asked), _target(asked)
        after = whole_number(asked, "marker", 0)
        found = or_nothing(
            lambda: self._catalogue.page(status, target, after=after, limit=limit + 1), []
        )
        page = found[:limit]
        views = [replica.as_dict() for replica in page]
        if not self._rights.may(request, policies.READ_URLS, {}):
            for view in views:
                view.update(dict.fromkeys(ADMINISTRATORS_ONLY))
        filters = {name: value for name, value in asked.items() if name != "marker"}
        body = {"replicas": views, "first": _path(filters)}
        if page and len(found) > limit:
            body["next"] = _path({**filters, "marker": str(page[-1].id)})
        return json(body)


def _status(asked: Mapping[str, str]) -> ReplicaStatus | None:
    if "status" not in asked:
        return None
    try:
        return ReplicaStatus(asked["status"])
    except ValueError:
        known = ", ".join(ReplicaStatus)
        raise refused(webob.exc.HTTPBadRequest, f"status must be one of: {known}.") from None


def _target(asked: Mapping[str, str]) -> str | None:
    target = asked.get("target")
    if target is not None and not is_target_name(target):
        raise refused(webob.exc.HTTPBadRequest, "target is not the name of a target.")
    return target


def _path(asked: Mapping[str, str]) -> str:
    kept = {name: asked[name] for name in _PARAMETERS if name in asked}
    return f"{PATH}?{parse.urlencode(kept)}" if kept else PATH
