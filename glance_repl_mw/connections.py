# SPDX-License-Identifier: Apache-2.0
"""Connections that wait for an answer within bounds and skip what comes before it.

A server may announce its answer with interim ones (100, 102, 103), which http.client takes for
the answer itself unless it is a 100. And a timeout of a socket is one between two bytes: who sends
one byte at a time would hold a thread for days.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import time
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

# Enough for one in 10 s during a day; a limit there must be.
MOST_INTERIM_ANSWERS = 10_000
# Interim answers may put off the end of the wait, up to so many timeouts.
_LONGEST_WAIT_TIMEOUTS = 10
_MOST_TRAILERS = 100
_MOST_TRAILER_BYTES = 8192
_INTERIM = re.compile(rb"HTTP/1\.[0-9] 1(?!01)[0-9]{2}(?![0-9])")
_EXAMPLE = b"HTTP/1.1 102"
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")


class BoundedInput(io.RawIOBase):
    """Reads from a socket until ``deadline``; afterwards it raises ``TimeoutError``.

    :ivar silence_seconds: the socket's own timeout, between two bytes
    :ivar deadline: by ``time.monotonic``
    """

    def __init__(self, sock: socket.socket) -> None:
        self.silence_seconds = sock.gettimeout() or 60.0
        self.deadline = float("inf")
        self._sock = sock
        # SocketIO keeps the socket open, also after its owner has closed it.
        self._raw: Any = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(min(left, self.silence_seconds))
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        super().close()
        self._raw.close()


class BoundedResponse(http.client.HTTPResponse):
    """An answer whose head must be there within the timeout of the socket.

    How long its body may take is said before each part of it is read.
    """

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self._input = BoundedInput(sock)
        self.fp = io.BufferedReader(self._input)
        self.allow()

    def allow(self, seconds: float | None = None) -> None:
        """Let what is read from now on take so long altogether; by default the timeout."""
        seconds = self._input.silence_seconds if seconds is None else seconds
        self._input.deadline = time.monotonic() + seconds

    def begin(self) -> None:
        """Read the head.

        :raises http.client.HTTPException: it is none, or too large
        :raises TimeoutError:
        """
        if self.headers is None:
            super().begin()
            # urllib3 would log what it makes of odd headers, with the whole URL.
            self.msg.defects.clear()
            self.msg.set_payload(None)

    def _read_status(self) -> tuple[str, int, str]:
        """The first line of the answer, after those of interim ones."""
        seconds = self._input.silence_seconds
        latest = time.monotonic() + _LONGEST_WAIT_TIMEOUTS * seconds
        for _ in range(MOST_INTERIM_ANSWERS):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if status == http.HTTPStatus.SWITCHING_PROTOCOLS:
                raise http.client.HTTPException("another protocol was not asked for")
            if not 100 <= status < 200:
                return version, status, reason
            http.client.parse_headers(self.fp)
            self._input.deadline = min(time.monotonic() + seconds, latest)
        raise too_many_interim_answers()

    def _read_and_discard_trailer(self) -> None:
        """Read what follows a chunked body, which http.client does without an end."""
        for _ in range(_MOST_TRAILERS):
            line = self.fp.readline(_MOST_TRAILER_BYTES + 1)
            if len(line) > _MOST_TRAILER_BYTES:
                raise http.client.LineTooLong("trailer")
            if line in (b"\r\n", b"\n", b""):
                return
        raise http.client.HTTPException(f"more than {_MOST_TRAILERS} trailers")


def too_many_interim_answers() -> http.client.HTTPException:
    return http.client.HTTPException(f"more than {MOST_INTERIM_ANSWERS} interim answers")


def interim_bytes(data: bytes) -> int | None:
    """How many bytes of ``data``, the beginning of what a server sent, are an interim answer.

    Returns 0 where that cannot be told before more is there, None where it is a final answer.
    """
    if len(data) <= len(_EXAMPLE):
        # Nothing at all is how a server says that it has left.
        rest = _EXAMPLE[len(data) :] + b" "
        return 0 if data and _INTERIM.match(data + rest) else None
    if not _INTERIM.match(data):
        return None
    end = _END_OF_HEAD.search(data)
    return end.end() if end else 0


class KeptConnection(HTTPConnection):
    """A connection for one small request after the other."""

    response_class = BoundedResponse


class KeptTLSConnection(KeptConnection, HTTPSConnection):
    """The same over TLS."""


class _KeptPool(HTTPConnectionPool):
    ConnectionCls = KeptConnection


class _KeptTLSPool(HTTPSConnectionPool):
    ConnectionCls = KeptTLSConnection


class KeptAdapter(HTTPAdapter):
    """Keeps connections for further requests."""

    pools: dict[str, type[HTTPConnectionPool]] = {"http": _KeptPool, "https": _KeptTLSPool}

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self.pools


class _FirstAnswer(BoundedResponse):
    """An answer that comes at once: an interim one asks for a body that is never sent."""

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super(BoundedResponse, self)._read_status()  # type: ignore[misc]
        if 100 <= status < 200:
            raise http.client.HTTPException("the server wants the body")
        return version, status, reason


class _ExpectingConnection(KeptConnection):
    response_class = _FirstAnswer


class _ExpectingTLSConnection(_ExpectingConnection, KeptTLSConnection):
    """The same over TLS."""


class _ExpectingPool(HTTPConnectionPool):
    ConnectionCls = _ExpectingConnection


class _ExpectingTLSPool(HTTPSConnectionPool):
    ConnectionCls = _ExpectingTLSConnection


class ExpectingAdapter(KeptAdapter):
    """For requests with ``Expect: 100-continue`` whose body is never sent."""

    pools = {"http": _ExpectingPool, "https": _ExpectingTLSPool}
