# SPDX-License-Identifier: Apache-2.0
"""Reads from a database in which the first writer has not made the tables yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import oslo_db.exception

Found = TypeVar("Found")


def or_nothing(read: Callable[[], Found], nothing: Any) -> Found:
    """What is read; where there are no tables, as before the first replica, ``nothing``.

    :param nothing: of the same kind as what is read
    :raises DBError: whatever else is wrong
    """
    try:
        return read()
    except oslo_db.exception.DBNonExistentTable:
        return cast(Found, nothing)
