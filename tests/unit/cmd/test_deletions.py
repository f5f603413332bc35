# SPDX-License-Identifier: Apache-2.0
"""`deletions release --this-glance`: the Glance that answers is the right one."""

import datetime

import pytest

from glance_repl_mw.db.deletions import DeletionRecords, Witness

WITNESS = Witness("an image", "a project", datetime.datetime(2026, 1, 1))


@pytest.fixture
def known(records):
    known = DeletionRecords(records.database)
    known.set_fact("glance_tells_deployment", "yes")
    known.set_witnesses([WITNESS])
    return known


def test_what_glance_is_known_by_is_forgotten_and_the_breaker_stays_as_it_is(node, known):
    known.trip("too many")
    status, out, err = node.run("deletions", "release", "--this-glance")
    assert (status, err) == (0, "")
    assert "next comparison" in out
    assert known.witnesses() == []
    assert known.fact("glance_tells_deployment") is None
    assert known.breaker().tripped_at is not None


@pytest.mark.parametrize("more", ["--all-missing", "an-image"])
def test_it_goes_alone(node, known, more):
    status, _, err = node.run("deletions", "release", "--this-glance", more)
    assert status == 2
    assert "goes alone" in err
    assert known.witnesses() == [WITNESS]
