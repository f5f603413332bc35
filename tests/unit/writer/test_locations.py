# SPDX-License-Identifier: Apache-2.0
"""New locations are looked at once more, some seconds later."""

import pytest
from oslo_utils import timeutils

from glance_repl_mw.model import ReplicaStatus
from glance_repl_mw.writer import locations
from glance_repl_mw.writer.locations import LocationKeeper


@pytest.fixture
def keeper(lab, crew, monkeypatch):
    """It is about to look at the two locations of an upload, which Glance has lost."""
    monkeypatch.setattr(locations, "_SECOND_LOOK_SECONDS", 0.0)
    lab.accepted(b"some bytes")
    job = lab.take_in_hand()
    lab.until_done()
    keeper = LocationKeeper(crew)
    for target, row in lab.rows().items():
        keeper.watch(job.upload, target, row.location_url)
    crew.images.lose_locations()
    return keeper


def look(keeper, crew):
    keeper.tick()
    while crew.at_work:
        crew.events.get()()


def test_lost_locations_are_added_again(keeper, lab, crew):
    look(keeper, crew)
    wanted = {row.location_url for row in lab.rows().values()}
    assert wanted <= set(crew.images.image.locations)


def test_location_that_was_withdrawn_meanwhile_does_not_come_back(keeper, lab, crew):
    """The replica was found to be bad in the seconds before the second look."""
    bad, good = (lab.rows()[name] for name in ("site-a", "site-b"))
    crew.store.update(bad.upload_id, [bad.target], ReplicaStatus.ERROR)
    look(keeper, crew)
    assert crew.images.image.locations == ("file:///primary", good.location_url)


def test_image_is_looked_at_soon_for_what_earlier_attempts_have_left(keeper, lab, crew):
    look(keeper, crew)
    row = lab.rows()["site-a"]
    stored = {"next_attempt_at": timeutils.utcnow(), "former_objects": "an earlier one"}
    crew.store.update(row.upload_id, [row.target], ReplicaStatus.STORED, **stored)
    keeper.retry(lab.rows()["site-a"])
    look(keeper, crew)
    assert lab.rows()["site-a"].status == "active"
    assert crew.spool.take_notes() == [row.image_id]
