# SPDX-License-Identifier: Apache-2.0
"""States and their legal steps."""

import datetime
import itertools

import pytest

from glance_repl_mw.model import Replica, ReplicaStatus


def replica(**values):
    now = datetime.datetime(2026, 1, 2)
    fields = dict.fromkeys(Replica.__dataclass_fields__)
    return Replica(**{**fields, "bytes_sent": 0, "created_at": now, "updated_at": now, **values})


def test_main_way_is_legal():
    way = ["pending", "uploading", "stored", "active", "deleting", "deleted"]
    states = [ReplicaStatus(word) for word in way]
    assert all(a.may_become(b) for a, b in itertools.pairwise(states))


@pytest.mark.parametrize(
    ("before", "after"),
    [(before, "active") for before in ("deleting", "deleted", "pending", "uploading", "error")],
)
def test_only_a_stored_replica_becomes_active(before, after):
    assert not ReplicaStatus(before).may_become(ReplicaStatus(after))


def test_every_state_may_stay():
    assert all(state.may_become(state) for state in ReplicaStatus)


@pytest.mark.parametrize(
    ("former", "names", "is_bad"),
    [
        (None, ["now"], False),
        ("before", ["now", "before"], False),
        ("now before", ["now", "before"], True),
    ],
)
def test_object_that_was_found_to_be_bad_counts_among_the_former_ones(former, names, is_bad):
    row = replica(object_name="now", former_objects=former)
    assert (row.object_names, row.is_bad) == (names, is_bad)


@pytest.mark.parametrize(
    ("status", "size", "sent", "progress"),
    [
        ("uploading", 200, 50, 0.25),
        ("uploading", None, 50, 0.0),
        ("error", 0, 0, 0.0),
        ("uploading", 200, 300, 1.0),
        ("stored", 200, 0, 1.0),
        ("active", 200, 0, 1.0),
    ],
)
def test_progress(status, size, sent, progress):
    row = replica(status=ReplicaStatus(status), size=size, bytes_sent=sent)
    assert row.progress == progress
