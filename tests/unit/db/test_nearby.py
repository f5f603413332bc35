# SPDX-License-Identifier: Apache-2.0
"""Where an image lies at a target, for a node at which the target may have failed."""

import datetime

import sqlalchemy as sa
from oslo_utils import timeutils

from glance_repl_mw.db.models import ReplicaRow
from glance_repl_mw.db.nearby import NearbyReplicas
from glance_repl_mw.db.session import Context
from glance_repl_mw.db.states import TargetStates
from glance_repl_mw.model import ReplicaStatus, TargetState

URL = "http://here/one"


def set_replica(database, status):
    now = timeutils.utcnow()
    here = {"image_id": "one", "target": "here", "upload_id": "upload"}
    with database.writer.using(Context()) as session:
        session.execute(sa.delete(ReplicaRow))
        moments = {"created_at": now, "updated_at": now}
        session.add(ReplicaRow(**here, **moments, status=status, location_url=URL))


def report(database, node, error, seconds_ago=0):
    seen_at = timeutils.utcnow() - datetime.timedelta(seconds=seconds_ago)
    TargetStates(database).report(node, [TargetState(node, "here", True, error, seen_at)])


def test_only_what_is_active_may_be_read(database):
    nearby = NearbyReplicas(database)
    assert nearby.url("one", "here", "node") is None
    set_replica(database, ReplicaStatus.STORED)
    assert nearby.url("one", "here", "node") is None
    set_replica(database, ReplicaStatus.ACTIVE)
    assert nearby.url("one", "here", "node") == URL
    assert nearby.url("one", "there", "node") is None
    assert nearby.url("two", "here", "node") is None


def test_target_that_has_just_failed_at_this_node_is_not_read(database):
    nearby = NearbyReplicas(database)
    set_replica(database, ReplicaStatus.ACTIVE)
    report(database, "other", "no answer")
    assert nearby.url("one", "here", "node") == URL
    report(database, "node", "no answer")
    assert nearby.url("one", "here", "node") is None
    report(database, "node", "no answer", seconds_ago=120)
    assert nearby.url("one", "here", "node") == URL, "nothing was said of late"
    report(database, "node", None)
    assert nearby.url("one", "here", "node") == URL
