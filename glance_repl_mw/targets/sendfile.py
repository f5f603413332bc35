# SPDX-License-Identifier: Apache-2.0
"""Sends a body that still grows over HTTP, and breaks it off so that the server can tell.

``FreshAdapter`` gives every request a connection of its own: a body that cannot be sent twice
never meets a kept connection that the server has just closed, and one that was broken off never
leaves a half-used connection behind.
"""

from __future__ import annotations

import enum
import errno
import fcntl
import os
import select
import socket
import ssl
import struct
import termios
import time
from collections.abc import Iterator
from typing import Any

from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.response import HTTPResponse

from glance_repl_mw import connections, exceptions
from glance_repl_mw.targets.base import Reader

_PIECE_BYTES = 4 * 1024**2
# Larger blocks cost more than twice the CPU time when urllib3 frames them as chunks.
_BLOCK_BYTES = 256 * 1024
_SHORTEST_POLL_SECONDS = 0.005
_LONGEST_POLL_SECONDS = 0.25
_BREAK_OFF_SECONDS = 5.0
_MOST_OF_A_HEAD = 64 * 1024


class Upload:
    """The body of one PUT; iterated by the connection, in the thread that owns the reader.

    :param target: the target's name, for errors
    :param size: bytes that ``reader`` will give, None where that is not known
    :param by_sendfile: let the kernel send what is in a file; plain HTTP of a known size only
    :param stall_seconds: for how long the server may accept nothing
    :ivar complete: the reader has come to its end and all its bytes are sent
    """

    def __init__(
        self,
        target: str,
        reader: Reader,
        size: int | None,
        by_sendfile: bool,
        stall_seconds: float,
    ) -> None:
        self.size = size
        self.stall_seconds = stall_seconds
        self.complete = False
        self._target = target
        self._reader = reader
        self._by_sendfile = by_sendfile
        self._start = reader.offset

    @property
    def sent(self) -> int:
        """Bytes that were handed to the connection."""
        return self._reader.offset - self._start

    def __iter__(self) -> Iterator[bytes | Span]:
        """The pieces, as the reader gives them.

        :raises UploadCut: from the reader
        :raises TargetUnavailable: the upload is shorter or longer than was announced
        """
        file = self._reader.fileno() if self._by_sendfile else None
        while available := self._reader.wait():
            if self.size is not None and self.sent + available > self.size:
                raise self._wrong_size("has more")
            count = min(available, _PIECE_BYTES)
            if file is not None:
                yield Span(self._reader, file, count)
            else:
                yield self._reader.read(min(count, _BLOCK_BYTES))
        if self.size is not None and self.sent < self.size:
            raise self._wrong_size(f"ended after {self.sent}")
        self.complete = True

    def _wrong_size(self, what: str) -> exceptions.TargetUnavailable:
        hint = f"{self.size} bytes were announced, but the upload {what}"
        return exceptions.TargetUnavailable(target=self._target, operation="put", hint=hint)


class Span:
    """The next ``count`` bytes of a reader, sent straight from its file."""

    def __init__(self, reader: Reader, file: int, count: int) -> None:
        self._reader = reader
        self._file = file
        self._left = count

    def send_some(self, sock: socket.socket) -> int:
        """Send what the socket takes; returns how many bytes are left.

        :raises BlockingIOError: it takes nothing
        :raises UploadCut: the file is shorter than the reader said
        """
        sent = os.sendfile(sock.fileno(), self._file, self._reader.offset, self._left)
        if not sent:
            raise exceptions.UploadCut(operation="read the spool", hint="the file has shrunk")
        self._reader.skip(sent)
        self._left -= sent
        return self._left


class _Bytes:
    """Bytes that are sent as the socket takes them."""

    def __init__(self, data: bytes) -> None:
        self._rest = memoryview(data)

    def send_some(self, sock: socket.socket) -> int:
        self._rest = self._rest[sock.send(self._rest) :]
        return len(self._rest)


class _Ready(enum.Enum):
    """What a connection that sends has waited for."""

    NOT = 0
    YES = 1
    ANSWERED = 2


class _FreshConnection(connections.KeptConnection):
    """A connection for one request, which may have an ``Upload`` as its body."""

    _upload: Upload | None = None
    _interim_answers = 0

    def request(self, method: str, url: str, body: Any = None, *args: Any, **kwargs: Any) -> None:
        self._upload = body if isinstance(body, Upload) else None
        self._interim_answers = 0
        try:
            super().request(method, url, body, *args, **kwargs)
            if self._upload:
                self._await_acceptance(self._upload.stall_seconds)
        except OSError:
            raise
        except BaseException:
            self._break_off()
            raise

    def send(self, data: Any) -> None:
        """Send headers or a piece of the body.

        :raises BrokenPipeError: the server has answered or left; urllib3 reads the answer then
        :raises TimeoutError: the server accepts nothing
        """
        if self._upload is None or self.sock is None:
            super().send(data)
            return
        piece = data if isinstance(data, Span) else _Bytes(data)
        self.sock.settimeout(self._upload.stall_seconds)
        try:
            while self._may_send(self._upload.stall_seconds):
                try:
                    if not piece.send_some(self.sock):
                        return
                except BlockingIOError:
                    continue
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
            raise BrokenPipeError(errno.EPIPE, str(error)) from error
        raise BrokenPipeError(errno.EPIPE, "the server answered before the end of the body")

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        response = super().getresponse()
        # The response keeps the socket open for as long as it needs it.
        sock, self.sock = self.sock, None
        if sock is not None:
            sock.close()
        return response

    def _may_send(self, stall_seconds: float) -> bool:
        """Wait until the socket takes bytes; False once the server has answered or left.

        :raises TimeoutError: it takes none and the unacknowledged ones do not become fewer
        """
        queued = _queued_bytes(self.sock)
        while (ready := self._wait(select.POLLOUT, stall_seconds)) is _Ready.NOT:
            queued, before = _queued_bytes(self.sock), queued
            if queued >= before:
                raise _stalled(stall_seconds)
        return ready is _Ready.YES

    def _await_acceptance(self, stall_seconds: float) -> None:
        """Wait until the last byte has been acknowledged or the server has answered.

        From then on the stall timeout is that of reading the answer.

        :raises TimeoutError: no further byte is acknowledged
        """
        pause, queued = _SHORTEST_POLL_SECONDS, _queued_bytes(self.sock)
        progress_at = time.monotonic()
        while queued and self._wait(0, pause) is _Ready.NOT:
            pause = min(pause * 2, _LONGEST_POLL_SECONDS)
            queued, before = _queued_bytes(self.sock), queued
            if queued < before:
                progress_at = time.monotonic()
            elif time.monotonic() - progress_at > stall_seconds:
                raise _stalled(stall_seconds)

    def _wait(self, events: int, seconds: float) -> _Ready:
        """Wait for events at the socket, or for the server's answer; interim ones are skipped.

        Under TLS a socket also becomes readable for reasons other than an answer: there the
        answer is not looked for.

        :raises http.client.HTTPException: too many interim answers
        """
        answer = 0 if isinstance(self.sock, ssl.SSLSocket) else select.POLLIN
        is_part_of_one_there = False
        end = time.monotonic() + seconds
        while True:
            left = max(0.0, end - time.monotonic())
            if is_part_of_one_there:
                # The socket stays readable; the rest is looked for a little later.
                ready = _polled(self.sock, events, min(left, _SHORTEST_POLL_SECONDS))
                is_part_of_one_there = False
            else:
                ready = _polled(self.sock, events | answer, left)
            if ready & answer:
                skipped = self._skip_interim_answers()
                if skipped is None:
                    return _Ready.ANSWERED
                is_part_of_one_there = not skipped
            if ready & ~answer:
                return _Ready.YES
            if not left:
                return _Ready.NOT

    def _skip_interim_answers(self) -> int | None:
        """How many bytes of interim answers were skipped, None where the answer is there.

        :raises http.client.HTTPException: too many
        """
        data = self.sock.recv(_MOST_OF_A_HEAD, socket.MSG_PEEK)
        count = connections.interim_bytes(data)
        if count is None or (not count and len(data) == _MOST_OF_A_HEAD):
            return None
        self._interim_answers += bool(count)
        if self._interim_answers > connections.MOST_INTERIM_ANSWERS:
            raise connections.too_many_interim_answers()
        left = count
        while left:
            left -= len(self.sock.recv(left))
        return count

    def _break_off(self) -> None:
        """End the body too early and wait, within limits, until the server closes as well.

        By then whatever it makes of the part that it has is there to be cleaned up.
        """
        sock = self.sock
        if sock is None:
            return
        try:
            sock.shutdown(socket.SHUT_WR)
            poller = select.poll()
            poller.register(sock, select.POLLRDHUP)
            poller.poll(_BREAK_OFF_SECONDS * 1000)
        except OSError:
            pass


class _FreshTLSConnection(_FreshConnection, HTTPSConnection):
    """The same over TLS."""


class _FreshPool(HTTPConnectionPool):
    ConnectionCls = _FreshConnection


class _FreshTLSPool(HTTPSConnectionPool):
    ConnectionCls = _FreshTLSConnection


class FreshAdapter(connections.KeptAdapter):
    """Gives every request a new connection, which may send an ``Upload``."""

    pools = {"http": _FreshPool, "https": _FreshTLSPool}


def _polled(sock: socket.socket, events: int, seconds: float) -> int:
    """The events that are there at last, 0 for none."""
    poller = select.poll()
    poller.register(sock, events)
    ready = poller.poll(seconds * 1000)
    return ready[0][1] if ready else 0


def _queued_bytes(sock: socket.socket) -> int:
    """Bytes that the kernel holds and the server has not acknowledged."""
    packed = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * 4)
    return int(struct.unpack("i", packed)[0])


def _stalled(seconds: float) -> TimeoutError:
    return TimeoutError(f"no byte was accepted for {seconds:g} s")
