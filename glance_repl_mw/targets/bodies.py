# SPDX-License-Identifier: Apache-2.0
"""Reads the bodies of answers: never more than is asked for, never decoded, in a bounded time."""

from __future__ import annotations

import time
from collections.abc import Iterator

import requests
from urllib3.exceptions import HTTPError

from glance_repl_mw.connections import BoundedResponse

_BLOCK_BYTES = 1024**2
_GATHER_SECONDS = 0.5
_BEGINNING_BYTES = 64 * 1024
_BEGINNING_SECONDS = 5.0


def part(response: requests.Response, most_bytes: int, seconds: float) -> bytes:
    """What is there next of the body, b"" at its end; waits for it so long at most.

    :raises urllib3.exceptions.HTTPError: among them ReadTimeoutError
    """
    # requests and urllib3 hand the answer of http.client through, which is one of ours.
    answer = response.raw._original_response
    assert isinstance(answer, BoundedResponse)
    answer.allow(seconds)
    return response.raw.read1(most_bytes, decode_content=False)


def blocks(response: requests.Response, stall_seconds: float) -> Iterator[bytes]:
    """The whole body in blocks: large ones, or what has come within half a second.

    :param stall_seconds: for how long nothing may come
    :raises urllib3.exceptions.HTTPError: also where the body ends too early
    """
    parts: list[bytes] = []
    size, begin = 0, time.monotonic()
    while piece := part(response, _BLOCK_BYTES - size, stall_seconds):
        parts.append(piece)
        size += len(piece)
        if size >= _BLOCK_BYTES or time.monotonic() - begin > _GATHER_SECONDS:
            yield b"".join(parts)
            parts, size, begin = [], 0, time.monotonic()
    if parts:
        yield b"".join(parts)


def beginning(response: requests.Response, stall_seconds: float) -> bytes:
    """The first bytes of a body; raises nothing, since the status is known already.

    A short body is read to its end, so that the connection can be used again.
    """
    content = b""
    end = time.monotonic() + min(_BEGINNING_SECONDS, stall_seconds)
    try:
        while len(content) < _BEGINNING_BYTES:
            piece = part(response, _BEGINNING_BYTES - len(content), end - time.monotonic())
            if not piece:
                break
            content += piece
    except (HTTPError, OSError):
        pass
    return content
