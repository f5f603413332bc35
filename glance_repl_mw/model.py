# SPDX-License-Identifier: Apache-2.0
"""What the rooms hand to each other: states and plain, frozen records."""

from __future__ import annotations

import dataclasses
import datetime
import enum
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from glance_repl_mw.foreign_text import printable


class ReplicaStatus(enum.StrEnum):
    """The state of one image at one target, in Glance's own kind of words."""

    PENDING = "pending"
    UPLOADING = "uploading"
    STORED = "stored"
    ACTIVE = "active"
    ERROR = "error"
    DELETING = "deleting"
    DELETED = "deleted"

    def may_become(self, other: ReplicaStatus) -> bool:
        """Whether the step to ``other`` is legal; staying is always legal."""
        return other is self or other in _TRANSITIONS[self]


_S = ReplicaStatus
_TRANSITIONS: dict[ReplicaStatus, frozenset[ReplicaStatus]] = {
    # A replica that is a location already is adopted: it is stored without a transfer.
    _S.PENDING: frozenset({_S.UPLOADING, _S.STORED, _S.ERROR, _S.DELETING, _S.DELETED}),
    _S.UPLOADING: frozenset({_S.PENDING, _S.STORED, _S.ERROR, _S.DELETING, _S.DELETED}),
    _S.STORED: frozenset({_S.PENDING, _S.ACTIVE, _S.ERROR, _S.DELETING, _S.DELETED}),
    _S.ACTIVE: frozenset({_S.STORED, _S.ERROR, _S.DELETING, _S.DELETED}),
    _S.ERROR: frozenset({_S.PENDING, _S.UPLOADING, _S.STORED, _S.DELETING, _S.DELETED}),
    # An image that was taken for gone is there after all.
    _S.DELETING: frozenset({_S.STORED, _S.DELETED}),
    _S.DELETED: frozenset({_S.PENDING}),
}


_MOST_OF_AN_ERROR = 2000

# With a next attempt planned, and in no writer's hand, such a replica is to be fetched.
WAITING_FOR_BYTES = (ReplicaStatus.PENDING, ReplicaStatus.ERROR)

CLOSED = (ReplicaStatus.DELETING, ReplicaStatus.DELETED)

# Nothing is left to do for the upload that it is of.
ENDED = (ReplicaStatus.ACTIVE, *CLOSED)


# Nodes share the images among them by so many letters that their ids begin with.
SHARE_LETTERS = 2


class Priority(enum.IntEnum):
    """Which of the replicas that wait for their bytes come first; lower is sooner."""

    SYNC = 1
    REPAIR = 2
    BACKFILL = 3


class Wish(enum.StrEnum):
    """What an operator wants of a target besides that it holds replicas."""

    DRAIN = "drain"
    REMOVE = "remove"


@dataclasses.dataclass(frozen=True)
class TargetState:
    """What the writer of a node has last seen of a target.

    :ivar error: of the last failure, None after a success
    :ivar seen_at: UTC, without a time zone
    """

    node: str
    target: str
    is_up: bool
    error: str | None
    seen_at: datetime.datetime


@dataclasses.dataclass(frozen=True)
class Stored:
    """An object that is complete at a target.

    :ivar location_url: where Glance reads it
    :ivar size: bytes, as the target itself reports them
    :ivar checksum: md5 as a hex string where the target reports one, else None
    """

    location_url: str
    size: int
    checksum: str | None = None


@dataclasses.dataclass(frozen=True)
class Image:
    """Glance's own record of an image, as far as replication needs it.

    :ivar locations: the URLs without signatures, which tell apart where it lies
    :ivar given_locations: the URLs as Glance has them
    :ivar created_at: UTC, without a time zone
    :ivar updated_at: likewise
    :ivar properties: what it has in the form of text, its additional properties among it
    """

    image_id: str
    status: str
    size: int | None
    checksum: str | None
    os_hash_algo: str | None
    os_hash_value: str | None
    locations: tuple[str, ...]
    created_at: datetime.datetime | None = None
    updated_at: datetime.datetime | None = None
    given_locations: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    visibility: str | None = None
    owner: str | None = None
    container_format: str | None = None
    disk_format: str | None = None
    tags: frozenset[str] = frozenset()
    properties: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def has_data(self) -> bool:
        """Whether its bytes are complete and will not change any more."""
        return self.status in ("active", "deactivated")


@dataclasses.dataclass(frozen=True)
class Replica:
    """What is known of one image at one target.

    :ivar object_name: the object of the present attempt at the target
    :ivar size: bytes of the image, None while unknown
    :ivar bytes_sent: bytes of the present attempt handed to the target
    :ivar attempts: how many attempts at the bits or the location have failed in a row
    :ivar next_attempt_at: UTC, without a time zone; None where nothing is planned
    :ivar withheld: someone removed the location, and the replica shall not come back
    :ivar verified_at: when the object's size was last found right; UTC, without a time zone
    :ivar read_back_at: when all of its bytes were last found right; likewise
    :ivar node: whose writer has it in hand, None where no writer has
    :ivar former_objects: names of objects of earlier attempts that may still be at the target,
        separated by blanks; they go once the replica is active. The present object is among them
        once it was found to be bad
    :ivar cause: why the object is to be deleted, a ``Cause``; None in rows of earlier releases
    :ivar version: counts the changes of status and owner, so that none is made after another
    """

    image_id: str
    target: str
    upload_id: str
    status: ReplicaStatus
    object_name: str | None
    size: int | None
    bytes_sent: int
    location_url: str | None
    checksum: str | None
    attempts: int
    error: str | None
    next_attempt_at: datetime.datetime | None
    created_at: datetime.datetime
    updated_at: datetime.datetime
    priority: int = Priority.REPAIR
    withheld: bool = False
    verified_at: datetime.datetime | None = None
    read_back_at: datetime.datetime | None = None
    id: int = 0
    node: str | None = None
    former_objects: str | None = None
    cause: str | None = None
    version: int = 0

    @property
    def object_names(self) -> list[str]:
        """The names of all objects that the row accounts for, the present one first."""
        names = [*filter(None, [self.object_name]), *(self.former_objects or "").split()]
        return list(dict.fromkeys(names))

    @property
    def is_bad(self) -> bool:
        """Whether its object was found to have other bytes than the image, or none."""
        return self.object_name in (self.former_objects or "").split()

    @property
    def progress(self) -> float:
        """The share of the bytes that is at the target, from 0 to 1."""
        if self.status in (ReplicaStatus.STORED, ReplicaStatus.ACTIVE):
            return 1.0
        return min(1.0, self.bytes_sent / self.size) if self.size else 0.0

    @property
    def is_still_located(self) -> bool:
        """Whether it shall be deleted, and its location in Glance has to go before its object."""
        return self.status is ReplicaStatus.DELETING and self.next_attempt_at is None

    def as_dict(self) -> dict[str, Any]:
        """The replica as REST and the commands show it; times are ISO 8601 in UTC."""
        shown = {name: _plain(getattr(self, name)) for name in _SHOWN}
        # Rows may be older than the care with which they are written.
        return shown | {"error": self.error and printable(self.error, _MOST_OF_AN_ERROR)}


def counting(replicas: Iterable[Replica]) -> list[Replica]:
    """Of each image and target the one that counts, of those given oldest first.

    A closed one, as of an upload that Glance refused, counts only where there is no other.
    """
    found: dict[tuple[str, str], Replica] = {}
    for replica in replicas:
        key = (replica.image_id, replica.target)
        if key not in found or replica.status is not ReplicaStatus.DELETED:
            found[key] = replica
    return list(found.values())


Observer = Callable[[Replica, Replica], None]
"""Is told of a replica as it was and as it is now, when a change is committed; raises nothing."""


_SHOWN = (
    "image_id",
    "target",
    "status",
    "size",
    "bytes_sent",
    "progress",
    "location_url",
    "checksum",
    "attempts",
    "error",
    "next_attempt_at",
    "created_at",
    "updated_at",
)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return value.isoformat(timespec="seconds") + "Z"
    return value
