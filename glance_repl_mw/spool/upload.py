# SPDX-License-Identifier: Apache-2.0
"""What the spool knows of an upload."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

TAIL_BYTES = 64 * 1024
"""What is held back from every target until Glance has accepted the upload."""


class UploadState(enum.StrEnum):
    """What is known of a spooled upload: Glance's answer, or that it is still awaited.

    The bytes of ``PUT .../stage`` are ``staging``, then ``staged``, until their import has ended.
    """

    RECEIVING = "receiving"
    STAGING = "staging"
    STAGED = "staged"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


class Origin(enum.StrEnum):
    """Where the spooled bytes come from."""

    UPLOAD = "upload"
    STAGE = "stage"
    REPLICA = "replica"
    GLANCE = "glance"
    DOWNLOAD = "download"


@dataclasses.dataclass(frozen=True)
class Upload:
    """One upload attempt in the spool, as its sidecar tells it.

    :ivar size: announced bytes, or None where the client did not say
    :ivar received: bytes that Glance read, known once the upload is settled
    :ivar error: why the spool does not hold the body, or None where it does
    :ivar created_at: seconds since the epoch
    :ivar known_image: size, checksum, os_hash_algo and os_hash_value as Glance told them before
        the bytes were fetched; None where Glance must still be asked
    :ivar held_back: no target gets anything before all bytes are there
    :ivar targets: those that it serves; None for all that are to have every image
    """

    upload_id: str
    image_id: str
    size: int | None
    state: UploadState
    created_at: float
    received: int | None = None
    error: str | None = None
    origin: Origin = Origin.UPLOAD
    targets: tuple[str, ...] | None = None
    known_image: dict[str, Any] | None = None
    held_back: bool = False

    @property
    def is_fetched(self) -> bool:
        """Whether the reconciler read the bytes, of an image that Glance has already."""
        return self.origin in (Origin.REPLICA, Origin.GLANCE)

    @property
    def is_provisional(self) -> bool:
        """Whether it is of a download that still runs: no one may count on its bytes."""
        return self.origin is Origin.DOWNLOAD and self.state is UploadState.RECEIVING

    @property
    def is_staged(self) -> bool:
        """Whether it is of an image that is to be imported: staged, or being staged."""
        return self.state in (UploadState.STAGING, UploadState.STAGED)

    @property
    def can_be_sent_early(self) -> bool:
        """Whether it still comes, and targets may have the beginning before Glance has it."""
        is_coming = self.state is UploadState.RECEIVING and not self.held_back
        return is_coming and (self.size is None or self.size > TAIL_BYTES)

    @property
    def is_for_writer(self) -> bool:
        """Whether the writer takes it in hand as it is."""
        return not self.is_staged and not self.is_provisional


def upload_of(fields: object) -> Upload:
    """The upload of which ``fields`` came out of a sidecar.

    :raises ValueError: a state or origin is unknown
    :raises TypeError: a field is missing or unknown, or these are no fields
    :raises KeyError: the state is missing
    """
    if not isinstance(fields, dict):
        raise TypeError("these are no fields")
    targets = fields.get("targets")
    return Upload(
        **{
            **fields,
            "state": UploadState(fields["state"]),
            "origin": Origin(fields.get("origin", Origin.UPLOAD)),
            "targets": None if targets is None else tuple(targets),
        }
    )
