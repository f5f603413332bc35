# SPDX-License-Identifier: Apache-2.0
"""Proxies around what Glance reads and what it answers; a sink gets every byte as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol


class Input(Protocol):
    """What a WSGI server gives as ``wsgi.input``."""

    def read(self, size: int = ..., /) -> bytes: ...


class TeeIterable:
    """Passes the pieces of the body through unchanged, errors included.

    :param source: the server's own input
    :param sink: called with every non-empty piece of the body, in order; must not raise
    """

    def __init__(self, source: Any, sink: Callable[[bytes], None]) -> None:
        self._source = source
        self._sink = sink

    def _tee(self, data: bytes) -> bytes:
        if data:
            self._sink(data)
        return data

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._source:
            yield self._tee(piece)

    def close(self) -> None:
        close = getattr(self._source, "close", None)
        if close is not None:
            close()


class TeeInput(TeeIterable):
    """As above for a source that is a file; short reads pass unchanged as well."""

    def read(self, *size: int | None) -> bytes:
        return self._tee(self._source.read(*size))

    def readline(self, *size: int | None) -> bytes:
        return self._tee(self._source.readline(*size))

    def readlines(self, *hint: int | None) -> list[bytes]:
        return [self._tee(line) for line in self._source.readlines(*hint)]


class TeeBody(TeeIterable):
    """As above for the body of an answer.

    :param on_end: called once the server is done with the body, with whether it has taken all of
        it; must not raise
    """

    def __init__(
        self,
        source: Any,
        sink: Callable[[bytes], None],
        on_end: Callable[[bool], None],
    ) -> None:
        super().__init__(source, sink)
        self._on_end = on_end
        self._is_complete = False

    def __iter__(self) -> Iterator[bytes]:
        yield from super().__iter__()
        self._is_complete = True

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._on_end(self._is_complete)


def tee(source: Any, sink: Callable[[bytes], None]) -> TeeIterable:
    """The proxy that fits: a caller inside the process may hand in what can only be iterated."""
    return (TeeInput if hasattr(source, "read") else TeeIterable)(source, sink)


class ChunkedInput:
    """A chunked body as a file, from a server function that returns one chunk a call.

    :param read_chunk: returns the next chunk, b"" at the end; what it raises is passed on
    """

    def __init__(self, read_chunk: Callable[[], bytes]) -> None:
        self._read_chunk = read_chunk
        self._left = b""
        self._ended = False

    def read(self, size: int | None = -1) -> bytes:
        """As many bytes as were asked for, fewer only at the end of the body."""
        pieces, wanted = [], float("inf") if size is None or size < 0 else size
        while wanted > 0 and self._fill():
            piece, self._left = self._split(wanted)
            pieces.append(piece)
            wanted -= len(piece)
        return b"".join(pieces)

    def readline(self, size: int | None = -1) -> bytes:
        """Up to and with the next newline, at most ``size`` bytes."""
        pieces, wanted = [], float("inf") if size is None or size < 0 else size
        while wanted > 0 and self._fill():
            end = self._left.find(b"\n") + 1
            piece, self._left = self._split(min(wanted, end or wanted))
            pieces.append(piece)
            wanted -= len(piece)
            if piece.endswith(b"\n"):
                break
        return b"".join(pieces)

    def readlines(self, hint: int | None = None) -> list[bytes]:
        lines, total = [], 0
        for line in self:
            lines.append(line)
            total += len(line)
            if hint and total >= hint:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def _fill(self) -> bool:
        if not self._left and not self._ended:
            self._left = self._read_chunk()
            self._ended = not self._left
        return bool(self._left)

    def _split(self, size: float) -> tuple[bytes, bytes]:
        if size >= len(self._left):
            return self._left, b""
        return self._left[: int(size)], self._left[int(size) :]
