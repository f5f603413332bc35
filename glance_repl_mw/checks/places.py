# SPDX-License-Identifier: Apache-2.0
"""Where something is to be made."""

from __future__ import annotations

import pathlib
import tempfile


def existing(path: pathlib.Path) -> pathlib.Path:
    """The absolute path itself, or the nearest of its parents that is there."""
    return next(place for place in (path, *path.parents) if place.exists())


def can_hold(directory: pathlib.Path) -> bool:
    """Whether this process can make files there; tries it with one that leaves no trace."""
    try:
        with tempfile.TemporaryFile(dir=directory):
            return True
    except OSError:
        return False
