# SPDX-License-Identifier: Apache-2.0
"""A body of some size that is made while it is sent, to try a server with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

_BLOCK = hashlib.sha512(b"glance-repl-mw").digest() * 1024


class TrialBody:
    """A ``Reader`` of ``size`` bytes, always the same ones; used by one thread."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.offset = 0

    def wait(self) -> int:
        return self.size - self.offset

    def read(self, size: int = -1) -> bytes:
        begin = self.offset % len(_BLOCK)
        most = self.wait() if size < 0 else min(size, self.wait())
        piece = _BLOCK[begin : begin + most]
        self.offset += len(piece)
        return piece

    def skip(self, count: int) -> None:
        self.offset += count

    def fileno(self) -> None:
        return None

    def __iter__(self) -> Iterator[bytes]:
        """What is left, in pieces."""
        while piece := self.read(len(_BLOCK)):
            yield piece


def digest(blocks: Iterable[bytes]) -> bytes:
    """What tells one body from another."""
    hashed = hashlib.sha256()
    for block in blocks:
        hashed.update(block)
    return hashed.digest()
