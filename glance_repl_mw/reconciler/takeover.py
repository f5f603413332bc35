# SPDX-License-Identifier: Apache-2.0
"""Takes over what nodes had in hand whose writers are not alive any more."""

from __future__ import annotations

import datetime

from oslo_log import log
from oslo_utils import timeutils

from glance_repl_mw.model import Image, Replica, ReplicaStatus
from glance_repl_mw.reconciler import gone
from glance_repl_mw.reconciler.look import close
from glance_repl_mw.reconciler.tasks import Task
from glance_repl_mw.replicas.deletion import Cause

LOG = log.getLogger(__name__)

_INTERVAL_SECONDS = 10.0
# Nodes that were there before may have left something, too.
_ALONE_INTERVAL_SECONDS = 60.0
_AT_ONCE = 50


class TakeOver(Task):
    """Frees the rows of a node that is gone, each node those of the images it looks after.

    A replica that the node had stored only lacks its location; any other is made anew, from
    another replica or from Glance. A node that comes back finds its rows taken, and leaves them.
    """

    name = "search for what other nodes left behind"

    def run_once(self) -> float:
        alive = self.tools.nodes.alive
        if alive is None:
            return _INTERVAL_SECONDS
        patience = self.tools.conf.replication.take_over_after_seconds
        before = timeutils.utcnow() - datetime.timedelta(seconds=patience)
        rows = self.tools.survey.left_behind(alive, before, _AT_ONCE)
        if not rows:
            interval = _ALONE_INTERVAL_SECONDS if self.tools.nodes.is_alone else _INTERVAL_SECONDS
            return float(min(interval, patience))
        image_ids = list({row.image_id for row in rows})
        found, _ = gone.find(self.tools, image_ids)
        for row in rows:
            if self._take(row, found.get(row.image_id)):
                what = "Image %s, target %s: taken over from node %s"
                LOG.warning(what, row.image_id, row.target, row.node)
        return 0.0 if len(rows) == _AT_ONCE else _INTERVAL_SECONDS

    def _take(self, row: Replica, image: Image | None) -> bool:
        survey, now = self.tools.survey, timeutils.utcnow()
        if image is not None and not image.has_data:
            why = "its node is gone, and Glance does not have the bytes"
            return close(self.tools, row, why, Cause.REFUSED_UPLOAD)
        if row.status is ReplicaStatus.STORED:
            return survey.change(row, node=None, next_attempt_at=now) is not None
        values = {"error": f"node {row.node} is gone", "bytes_sent": 0, "next_attempt_at": now}
        return survey.change(row, ReplicaStatus.ERROR, node=None, **values) is not None
