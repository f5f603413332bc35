# SPDX-License-Identifier: Apache-2.0
"""The targets, and whether they are up."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import webob
from oslo_utils import timeutils

from glance_repl_mw import deployment, policies
from glance_repl_mw.db.catalogue import ReplicaCatalogue
from glance_repl_mw.db.states import TargetStates, health
from glance_repl_mw.model import TargetState
from glance_repl_mw.rest.answers import json
from glance_repl_mw.rest.beginning import or_nothing
from glance_repl_mw.rest.rights import Rights
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.targets.base import Target

# The writers report every ten seconds.
_FRESH = datetime.timedelta(seconds=60)
_NO_DETAILS = dict.fromkeys(("url", "wish", "replicas", "nodes"))


class Targets:
    """Answers requests for ``/v2/replication/targets``.

    :param targets: the configured ones by name
    :param spool: tells which deployment this node belongs to
    """

    def __init__(
        self,
        catalogue: ReplicaCatalogue,
        states: TargetStates,
        rights: Rights,
        targets: Mapping[str, Target],
        spool: Spool,
    ) -> None:
        self._catalogue = catalogue
        self._states = states
        self._rights = rights
        self._targets = targets
        self._spool = spool

    def answer(self, request: webob.Request) -> webob.Response:
        """All configured targets, in the order of ``enabled_targets``."""
        self._rights.demand(request, policies.TARGETS, {})
        since = timeutils.utcnow() - _FRESH
        states = or_nothing(lambda: self._states.since(since), [])
        of_target = {
            name: [state for state in states if state.target == name] for name in self._targets
        }
        details: Mapping[str, Mapping[str, Any]] = {}
        if self._rights.may(request, policies.TARGET_DETAILS, {}):
            details = self._details(of_target)
        views = [
            {"name": name, "health": health(seen), **details.get(name, _NO_DETAILS)}
            for name, seen in of_target.items()
        ]
        return json({"targets": views, "deployment": deployment.told(self._spool.directory)})

    def _details(self, states: Mapping[str, list[TargetState]]) -> dict[str, dict[str, Any]]:
        counts = or_nothing(self._catalogue.counts, {})
        wishes = or_nothing(self._catalogue.wishes, {})
        return {
            name: {
                "url": getattr(target.conf, "url", None),
                "wish": wishes.get(name),
                "replicas": counts.get(name, {}),
                "nodes": [_node_view(state) for state in states[name]],
            }
            for name, target in self._targets.items()
        }


def _node_view(state: TargetState) -> dict[str, Any]:
    return {
        "node": state.node,
        "health": health([state]),
        "error": state.error,
        "seen_at": state.seen_at.isoformat(timespec="seconds") + "Z",
    }
