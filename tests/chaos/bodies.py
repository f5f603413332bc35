# SPDX-License-Identifier: Apache-2.0
"""What users of the campaign upload, and how."""

import time
from collections.abc import Iterator

_PIECE_BYTES = 256 << 10


class BrokenOff(Exception):
    """The client leaves in the middle of its upload."""


class Body:
    """An upload's body; sent chunked unless it tells its length.

    :param pause_seconds: between two pieces
    :param breaks_off_at: the client leaves after so many bytes, None for never
    """

    def __init__(self, data: bytes, pause_seconds: float, breaks_off_at: int | None) -> None:
        self._data = data
        self._pause_seconds = pause_seconds
        self._breaks_off_at = breaks_off_at

    def __iter__(self) -> Iterator[bytes]:
        end = len(self._data) if self._breaks_off_at is None else self._breaks_off_at
        for offset in range(0, end, _PIECE_BYTES):
            yield self._data[offset : min(offset + _PIECE_BYTES, end)]
            time.sleep(self._pause_seconds)
        if self._breaks_off_at is not None:
            raise BrokenOff


class SizedBody(Body):
    """A body that tells its length."""

    def __len__(self) -> int:
        return len(self._data)
