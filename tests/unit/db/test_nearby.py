"""Where an image lies at a target, for a node that may have found the target down."""

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


def report(database, node, is_up, seconds_ago=0):
    seen_at = timeutils.utcnow() - datetime.timedelta(seconds=seconds_ago)
    TargetStates(database).report(node, [TargetState(node, "here", is_up, None, seen_at)])


def test_only_what_is_active_may_be_read(database):
    nearby = NearbyReplicas(database)
    assert nearby.url("one", "here", "node") is None
    set_replica(database, ReplicaStatus.STORED)
    assert nearby.url("one", "here", "node") is None
    set_replica(database, ReplicaStatus.ACTIVE)
    assert nearby.url("one", "here", "node") == URL
    assert nearby.url("one", "there", "node") is None
    assert nearby.url("two", "here", "node") is None


def test_target_that_this_node_finds_down_is_not_read(database):
    nearby = NearbyReplicas(database)
    set_replica(database, ReplicaStatus.ACTIVE)
    report(database, "other", is_up=False)
    assert nearby.url("one", "here", "node") == URL
    report(database, "node", is_up=False)
    assert nearby.url("one", "here", "node") is None
    report(database, "node", is_up=False, seconds_ago=120)
    assert nearby.url("one", "here", "node") == URL, "nothing was said of late"
    report(database, "node", is_up=True)
    assert nearby.url("one", "here", "node") == URL
