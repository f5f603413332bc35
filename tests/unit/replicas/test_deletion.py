# SPDX-License-Identifier: Apache-2.0
"""The whole table of the argument why an object may be deleted."""

import itertools

import pytest

from glance_repl_mw.replicas.deletion import Cause, Decision, Evidence, Naming, Sight, decide

NAMED = "a location of the image names it"
HIDDEN = "Glance does not show the locations of the image"
LAST = "it is the last readable copy of the image"
UNPROVEN = "no other copy of the image is proven to be readable"
SILENT = "Glance does not tell whether the image is there"
STOPPED = "deletions are stopped; see glance-repl-manage deletions show"
DELETED = "Glance was seen to delete the image"
PROVEN = "Glance has not had the image for long enough, and shows other projects' images"

CLOSED, TRIPPED = False, True
DEMANDED, INFERRED = Cause.DEMANDED, Cause.ORPHAN
COPIES = (0, 1, 2)


def expected(cause, sight, naming, copies, tripped):
    """The decision and the reason, written as a person would say them."""
    if naming is Naming.NAMED:
        return False, NAMED
    if sight is Sight.UNREADABLE:
        return False, SILENT
    if sight is Sight.DELETED:
        return True, DELETED
    if sight is Sight.ABSENT:
        return (False, STOPPED) if tripped else (True, PROVEN)
    if naming is Naming.UNKNOWN:
        return False, HIDDEN
    if copies == 0:
        return False, LAST
    if tripped and cause is INFERRED:
        return False, STOPPED
    return True, f"no location names it, and other readable copies: {copies}"


TABLE = list(itertools.product((DEMANDED, INFERRED), Sight, Naming, COPIES, (CLOSED, TRIPPED)))


@pytest.mark.parametrize(("cause", "sight", "naming", "copies", "tripped"), TABLE)
def test_decision_and_reason(cause, sight, naming, copies, tripped):
    evidence = Evidence(cause, sight, naming, other_copies=copies, has_tripped=tripped)
    decision = decide(evidence)
    assert (decision.may_delete, decision.reason) == expected(
        cause, sight, naming, copies, tripped
    )


def test_living_image_needs_a_copy_that_is_proven():
    for sight, naming in itertools.product(Sight, Naming):
        for copies in COPIES:
            evidence = Evidence(DEMANDED, sight, naming, copies, unproven="HTTP 503")
            decision, reason = expected(DEMANDED, sight, naming, copies, CLOSED)
            if sight is Sight.PRESENT and decision:
                decision, reason = False, f"{UNPROVEN}: HTTP 503"
            assert decide(evidence) == Decision(decision, reason)


def test_table_is_whole():
    assert len(TABLE) == 2 * 4 * 3 * 3 * 2


@pytest.mark.parametrize("sight", [Sight.ABSENT, Sight.DELETED, Sight.UNREADABLE])
@pytest.mark.parametrize("tripped", [CLOSED, TRIPPED])
def test_doubt_keeps_what_is_not_there(sight, tripped):
    evidence = Evidence(
        Cause.IMAGE_MISSING, sight, Naming.UNKNOWN, doubt="missing for 1 h", has_tripped=tripped
    )
    assert decide(evidence).reason == "missing for 1 h"
    assert not decide(evidence).may_delete


def test_doubt_about_an_absence_says_nothing_of_an_image_that_is_there():
    evidence = Evidence(
        Cause.DEMANDED, Sight.PRESENT, Naming.NOT_NAMED, other_copies=1, doubt="missing for 1 h"
    )
    assert decide(evidence).may_delete


@pytest.mark.parametrize("cause", Cause)
@pytest.mark.parametrize("sight", Sight)
def test_no_cause_deletes_what_is_a_location(cause, sight):
    assert not decide(Evidence(cause, sight, Naming.NAMED, other_copies=9)).may_delete


@pytest.mark.parametrize("sight", Sight)
def test_what_another_replica_has_stays(sight):
    """As that of a target that was down, which is no location now."""
    evidence = Evidence(DEMANDED, sight, Naming.NOT_NAMED, other_copies=9, is_anothers=True)
    assert decide(evidence) == Decision(False, "another replica of the image has it")


def test_only_what_nobody_asked_for_is_inferred():
    assert {cause for cause in Cause if cause.is_inferred} == {
        Cause.IMAGE_MISSING,
        Cause.LOCATION_REMOVED,
        Cause.ORPHAN,
    }
