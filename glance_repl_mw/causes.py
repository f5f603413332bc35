# SPDX-License-Identifier: Apache-2.0
"""What an error was made of."""

from __future__ import annotations

from collections.abc import Iterator

_DEEPEST = 20


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what it was raised for, and so on."""
    each: BaseException | None = error
    for _ in range(_DEEPEST):
        if each is None:
            return
        yield each
        each = each.__cause__ or each.__context__
