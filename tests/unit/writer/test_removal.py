# SPDX-License-Identifier: Apache-2.0
"""Objects of replicas that are to be deleted."""

import time

import pytest

from glance_repl_mw import exceptions
from glance_repl_mw.model import ReplicaStatus
from glance_repl_mw.writer.removal import ObjectRemover
from tests.unit.writer.conftest import IMAGE, WAIT_SECONDS

BODY = b"the bytes of an image" * 100


@pytest.fixture
def row(lab):
    """A replica whose location is gone from the record, as its target is drained."""
    lab.accepted(BODY)
    lab.take_in_hand()
    lab.until_done()
    row = lab.rows()["site-a"]
    lab.crew.save(row.upload_id, ["site-a"], ReplicaStatus.DELETING, cause="demanded")
    return lab.rows()["site-a"]


def remove(lab, row):
    """Have the remover try once, and return what has become of the row."""
    remover = ObjectRemover(lab.crew)
    remover.retry([row])
    deadline = time.monotonic() + WAIT_SECONDS
    while remover._running:
        assert time.monotonic() < deadline
        lab.crew.events.get(timeout=WAIT_SECONDS)()
    return lab.rows()["site-a"]


def test_object_goes_where_another_copy_is_proven(lab, row, images, targets):
    images.lose_locations()
    assert remove(lab, row).status == "deleted"
    assert targets["site-a"].objects == {}


def test_object_that_turns_out_to_be_needed_gets_its_location_back(lab, row, images, targets):
    """The primary store dies between the removal of the location and that of the object."""
    images.lose_locations()
    images.unreadable = exceptions.GlanceUnavailable(IMAGE, hint="HTTP 503")
    after = remove(lab, row)
    assert after.is_still_located  # so that the look at the image has it come back
    assert "HTTP 503" in after.error
    assert len(targets["site-a"].objects) == 1
