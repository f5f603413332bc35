# SPDX-License-Identifier: Apache-2.0
"""Numbers of bytes that somebody else has written down."""

from __future__ import annotations

MOST_BYTES = 2**63 - 1
"""More fits into no sidecar and no row."""
_MOST_DIGITS = len(str(MOST_BYTES))


def size_of(text: str | None) -> int | None:
    """The number that a header names, None where it names none that can be the size of an image.

    :param text: what the header holds, None where it is missing
    """
    # Python itself refuses to read numbers of thousands of digits.
    if not text or not text.isascii() or not text.isdigit() or len(text) > _MOST_DIGITS:
        return None
    size = int(text)
    return size if size <= MOST_BYTES else None
