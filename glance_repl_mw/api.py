# SPDX-License-Identifier: Apache-2.0
"""The REST interface: where an image is, for whoever may see the image."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import oslo_db.exception
import webob
import webob.exc
from oslo_config import cfg
from oslo_db.sqlalchemy import enginefacade
from oslo_log import log
from oslo_policy import policy

from glance_repl_mw import routes
from glance_repl_mw.choice import Choice
from glance_repl_mw.db.catalogue import ReplicaCatalogue
from glance_repl_mw.db.demands import ReplicaDemands
from glance_repl_mw.db.patience import Patience
from glance_repl_mw.db.states import TargetStates
from glance_repl_mw.foreign_text import printable
from glance_repl_mw.rest import listing
from glance_repl_mw.rest.answers import Answered, refused
from glance_repl_mw.rest.beginning import or_nothing
from glance_repl_mw.rest.questions import is_target_name
from glance_repl_mw.rest.replicas import ImageReplicas
from glance_repl_mw.rest.rights import Rights
from glance_repl_mw.rest.targets import Targets
from glance_repl_mw.rest.waiting import WaitingRoom
from glance_repl_mw.spare_threads import SpareThreads
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.targets import loader

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

LOG = log.getLogger(__name__)

_REPLICAS = r"/v2/images/(?P<image_id>[0-9a-fA-F-]{36})/replicas/?"
_REPLICA = r"/v2/images/(?P<image_id>[0-9a-fA-F-]{36})/replicas/(?P<target>[^/]+)/?"
_LISTING = f"{listing.PATH}/?"
_TARGETS = "/v2/replication/targets/?"
_DATABASE_SECONDS = 5
_OURS = re.compile(
    "|".join(re.sub(r"\?P<\w+>", "?:", each) for each in (_REPLICAS, _REPLICA, _LISTING, _TARGETS))
)

_Handler = Callable[..., webob.Response]


class ReplicaAPI:
    """Answers requests for replicas; used by any thread of an API process.

    :param application: the rest of the pipeline, which knows who may see which image
    :param spool: where the writer of this node finds what was asked for
    :param threads: those that may wait
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        application: WSGIApplication,
        spool: Spool,
        database: enginefacade._TransactionContextManager,
        enforcer: policy.Enforcer,
        threads: SpareThreads,
    ) -> None:
        patience = Patience()
        demands = ReplicaDemands(database, patience)
        catalogue = ReplicaCatalogue(database, patience)
        states = TargetStates(database, patience)
        rights = Rights(enforcer)
        targets = loader.load_targets(conf)
        options = conf.replication
        room = WaitingRoom(
            lambda image_ids: or_nothing(lambda: demands.replicas(image_ids), []),
            options.api_max_waiters,
            options.api_wait_max_seconds,
            threads,
        )
        of_image = ImageReplicas(
            demands, rights, application, spool, targets, Choice(conf, targets), room
        )
        of_all = listing.Listing(catalogue, rights)
        places = Targets(catalogue, states, rights, targets, spool)
        self._routes: list[tuple[re.Pattern[str], dict[str, _Handler]]] = [
            (re.compile(_REPLICAS), {"GET": of_image.list}),
            (
                re.compile(_REPLICA),
                {"GET": of_image.show, "PUT": of_image.synchronise, "DELETE": of_image.remove},
            ),
            (re.compile(_LISTING), {"GET": of_all.answer}),
            (re.compile(_TARGETS), {"GET": places.answer}),
        ]

    @staticmethod
    def serves(path: str) -> bool:
        """Whether the path is one of ours; Glance never sees those.

        :param path: as ``routes.path_of`` gives it
        """
        return _OURS.fullmatch(path) is not None

    def respond(self, request: webob.Request) -> webob.Response:
        """The answer to a request for one of our paths; errors are answers too."""
        try:
            return self._answer(request)
        except Answered as answered:
            return answered.response
        except oslo_db.exception.DBError as error:
            what = printable(f"{request.method} {request.path} cannot be answered: {error}", 500)
            LOG.error("%s", what)
            why = "The database of the replicas cannot be asked now."
            kind = webob.exc.HTTPServiceUnavailable
            return refused(kind, why, _DATABASE_SECONDS).response

    def _answer(self, request: webob.Request) -> webob.Response:
        path = routes.path_of(request.environ)
        match, handlers = next(
            (match, handlers)
            for pattern, handlers in self._routes
            if (match := pattern.fullmatch(path))
        )
        handler = handlers.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            allowed = ", ".join(sorted({*handlers, "HEAD"}))
            return webob.exc.HTTPMethodNotAllowed(headers={"Allow": allowed})
        if request.content_length or request.headers.get("Transfer-Encoding"):
            raise refused(webob.exc.HTTPBadRequest, "This request takes no body.")
        named = match.groupdict()
        if "target" in named and not is_target_name(named["target"]):
            raise refused(webob.exc.HTTPNotFound, "There is no such target.")
        return handler(request, **named)
