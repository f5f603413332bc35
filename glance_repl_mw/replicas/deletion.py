# SPDX-License-Identifier: Apache-2.0
"""The argument why an object may be deleted: every delete of an object is decided here.

What is a location is never deleted, and the last readable copy never goes. That an image is gone
is a fact only where a DELETE of it was seen that Glance answered with success. Every other absence
is a claim: it needs a proof, a delay, and few images of which it is claimed at once.
"""

from __future__ import annotations

import dataclasses
import enum


class Sight(enum.StrEnum):
    """What is known of an image, whose record was just asked for."""

    DELETED = "deleted"  # this deployment saw Glance answer a DELETE with 2xx; no record is left
    ABSENT = "absent"  # Glance answers that there is no such image
    PRESENT = "present"
    UNREADABLE = "unreadable"  # Glance did not answer, or it is not the Glance that is known


class Naming(enum.StrEnum):
    """Whether a location of the image names the object."""

    NAMED = "named"
    NOT_NAMED = "not named"
    UNKNOWN = "unknown"


class Cause(enum.StrEnum):
    """Why an object is to be deleted."""

    IMAGE_DELETED = "image_deleted"
    IMAGE_MISSING = "image_missing"
    REFUSED_UPLOAD = "refused_upload"
    DEMANDED = "demanded"  # by REST, or since the target is drained
    SUPERSEDED = "superseded"  # another replica of the image at the target is active
    LOCATION_REMOVED = "location_removed"  # by someone else, and it shall not come back
    ORPHAN = "orphan"  # no row knows the object

    @property
    def is_inferred(self) -> bool:
        """Whether nobody has asked for it: it follows from what is not there."""
        return self in (Cause.IMAGE_MISSING, Cause.LOCATION_REMOVED, Cause.ORPHAN)


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What is known when an object is to be deleted.

    :ivar other_copies: copies of a present image besides the object that may be readable
    :ivar unproven: why none of them is proven to be readable now; empty where one is
    :ivar doubt: what an absence lacks to be believed, or until when a deleted image can be
        restored; empty where nothing is lacking
    :ivar is_anothers: a replica that is not closed has the object, be it a location or not
    :ivar has_tripped: the circuit breaker of deletions has tripped
    """

    cause: Cause
    sight: Sight
    naming: Naming
    other_copies: int = 0
    unproven: str = ""
    doubt: str = ""
    has_tripped: bool = False
    is_anothers: bool = False


@dataclasses.dataclass(frozen=True)
class Decision:
    """Whether the object may be deleted now.

    :ivar reason: as the operator is told it
    """

    may_delete: bool
    reason: str


def decide(evidence: Evidence) -> Decision:
    """Whether an object may be deleted now, and why or why not."""
    obstacle = _obstacle(evidence)
    if obstacle:
        return Decision(False, obstacle)
    return Decision(True, _grounds(evidence))


def _obstacle(evidence: Evidence) -> str:
    """What forbids the delete; empty where nothing does."""
    if evidence.naming is Naming.NAMED:
        return "a location of the image names it"
    if evidence.is_anothers:
        return "another replica of the image has it"
    if evidence.sight is Sight.UNREADABLE:
        return evidence.doubt or "Glance does not tell whether the image is there"
    if evidence.sight is Sight.PRESENT and evidence.naming is Naming.UNKNOWN:
        return "Glance does not show the locations of the image"
    if evidence.sight is Sight.PRESENT and not evidence.other_copies:
        return "it is the last readable copy of the image"
    if evidence.sight is Sight.PRESENT and evidence.unproven:
        return f"no other copy of the image is proven to be readable: {evidence.unproven}"
    if evidence.sight is not Sight.PRESENT and evidence.doubt:
        return evidence.doubt
    is_claim = evidence.cause.is_inferred or evidence.sight is Sight.ABSENT
    if evidence.has_tripped and is_claim and evidence.sight is not Sight.DELETED:
        return "deletions are stopped; see glance-repl-manage deletions show"
    return ""


def _grounds(evidence: Evidence) -> str:
    if evidence.sight is Sight.DELETED:
        return "Glance was seen to delete the image"
    if evidence.sight is Sight.ABSENT:
        return "Glance has not had the image for long enough, and shows other projects' images"
    return f"no location names it, and other readable copies: {evidence.other_copies}"
