# SPDX-License-Identifier: Apache-2.0
"""Whether a writer runs: on this node by the lock that it holds, on others by what they said."""

from __future__ import annotations

import dataclasses
import datetime
import fcntl
import os
import pathlib

WRITER_LOCK = "writer.lock"
API_LOCK = "api.lock"
# Writers say every ten seconds which targets are up.
FRESH = datetime.timedelta(seconds=60)
_PROCESS_ID_BYTES = 32


@dataclasses.dataclass(frozen=True)
class LocalWriter:
    """The writer of this node.

    :ivar runs: None where that cannot be seen, as by another user
    :ivar process: its id, None where it is not known
    """

    runs: bool | None
    process: int | None = None


def local_writer(directory: pathlib.Path) -> LocalWriter:
    """Look whether a process holds the writer's lock of this spool directory.

    Neither blocks nor makes anything, and lets the lock go at once.
    """
    try:
        descriptor = os.open(directory / WRITER_LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return LocalWriter(False)
    except OSError:
        return LocalWriter(None)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return LocalWriter(True, holder(descriptor))
    except OSError:
        return LocalWriter(None)
    finally:
        os.close(descriptor)
    return LocalWriter(False)


def is_watched(directory: pathlib.Path) -> bool:
    """Whether an API process of this node starts a writer where none runs.

    Neither blocks nor makes anything, and lets the lock of the API processes go at once.
    """
    try:
        descriptor = os.open(directory / API_LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def holder(descriptor: int) -> int | None:
    """The id of the process that holds an open ``writer.lock``, as that wrote it; else None."""
    word, _, _ = os.pread(descriptor, _PROCESS_ID_BYTES, 0).partition(b" ")
    return int(word) if word.isdigit() else None
