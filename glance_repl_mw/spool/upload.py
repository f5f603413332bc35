"""What the spool knows of an upload."""

from __future__ import annotations

import dataclasses
import enum


class UploadState(enum.StrEnum):
    """What is known of a spooled upload: Glance's answer, or that it is still awaited."""

    RECEIVING = "receiving"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


@dataclasses.dataclass(frozen=True)
class Upload:
    """One upload attempt in the spool, as its sidecar tells it.

    :ivar size: announced bytes, or None where the client did not say
    :ivar received: bytes that Glance read, known once the upload is settled
    :ivar error: why the spool does not hold the body, or None where it does
    :ivar created_at: seconds since the epoch
    """

    upload_id: str
    image_id: str
    size: int | None
    state: UploadState
    created_at: float
    received: int | None = None
    error: str | None = None
