# SPDX-License-Identifier: Apache-2.0
"""The body of a request: copied while Glance reads it, or read ahead of Glance.

Glance reads all of it as it came, errors included, and every header keeps its meaning. uWSGI keeps
a chunked body out of ``wsgi.input``; Glance reads it with a function of that server. So this
function is wrapped, once in each process, and nothing in the request is changed for it.
"""

from __future__ import annotations

import collections
import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any

from glance_repl_mw.sizes import size_of
from glance_repl_mw.tee import ChunkedInput, tee

try:
    import uwsgi
except ImportError:  # another WSGI server: a chunked body is in wsgi.input there
    uwsgi = None

_Read = Callable[..., bytes]

_BLOCK_BYTES = 64 * 1024

_reading: contextvars.ContextVar[_Read | None] = contextvars.ContextVar("reading", default=None)


def wrap_server() -> None:
    """Have chunks that Glance reads from uWSGI pass through here; does nothing elsewhere."""
    if uwsgi is not None and not hasattr(uwsgi.chunked_read, "__wrapped__"):
        uwsgi.chunked_read = _redirected(uwsgi.chunked_read)


def is_chunked(environ: dict[str, Any]) -> bool:
    """Whether the body comes in chunks, by which Glance does not know its length."""
    return str(environ.get("HTTP_TRANSFER_ENCODING", "")).lower() == "chunked"


@contextlib.contextmanager
def copied(environ: dict[str, Any], sink: Callable[[bytes], None]) -> Iterator[None]:
    """Within this, ``sink`` gets every piece of the body that is read; it must not raise."""
    if _is_past_the_input(environ):

        def read(*arguments: Any) -> bytes:
            piece: bytes = uwsgi.chunked_read.__wrapped__(*arguments)
            if piece:
                sink(piece)
            return piece

        with _read_with(read):
            yield
    else:
        _replace_input(environ, tee(environ["wsgi.input"], sink))
        yield


@contextlib.contextmanager
def read_ahead(environ: dict[str, Any], most_bytes: int) -> Iterator[bytes | None]:
    """Read the body, so that within this nobody waits for the client, who may send slowly.

    Gives the body, or None where it is longer than ``most_bytes``, breaks off, or is not told to
    be there: the rest, or the error, is then for Glance to meet. Blocks; raises nothing.
    """
    if _is_past_the_input(environ):
        original = uwsgi.chunked_read.__wrapped__
        ahead = _Ahead(lambda _: original(), most_bytes, None)
        with _read_with(ahead.replay(original)):
            yield ahead.body
        return
    length = size_of(environ.get("CONTENT_LENGTH"))
    if length == 0:
        yield b""
        return
    if (length or 0) > most_bytes or not (length or environ.get("wsgi.input_terminated")):
        yield None
        return
    source = environ["wsgi.input"]
    ahead = _Ahead(source.read, most_bytes, length)
    rest = functools.partial(source.read, _BLOCK_BYTES if ahead.body is None else 0)
    _replace_input(environ, ChunkedInput(ahead.replay(rest)))
    yield ahead.body


class _Ahead:
    """What was read ahead of Glance.

    :param read: returns the next piece, of at most so many bytes where the source can tell
    :param length: bytes of the body, None where only its end tells
    :ivar body: all of it, None where that is not known
    """

    def __init__(self, read: Callable[[int], bytes], most_bytes: int, length: int | None) -> None:
        self._pieces: collections.deque[bytes] = collections.deque()
        self._error: Exception | None = None
        wanted, received = most_bytes + 1 if length is None else length, 0
        while received < wanted:
            try:
                piece = read(min(_BLOCK_BYTES, wanted - received))
            except Exception as error:
                self._error = error
                break
            self._pieces.append(piece)
            received += len(piece)
            if not piece:
                break
        has_end = received == length if length is not None else self._has_end()
        self.body = b"".join(self._pieces) if has_end else None

    def _has_end(self) -> bool:
        return bool(self._pieces) and not self._pieces[-1]

    def replay(self, rest: _Read) -> _Read:
        """A function that reads all of this again, and goes on with ``rest``."""

        def read(*arguments: Any) -> bytes:
            if self._pieces:
                return self._pieces.popleft()
            if self._error is not None:
                raise self._error
            return rest(*arguments)

        return read


def _is_past_the_input(environ: dict[str, Any]) -> bool:
    return uwsgi is not None and is_chunked(environ)


def _replace_input(environ: dict[str, Any], body: Any) -> None:
    environ["wsgi.input"] = body
    # A filter before this one may have made the body seekable, and WebOb would seek in it.
    environ.pop("webob.is_body_seekable", None)


@contextlib.contextmanager
def _read_with(read: _Read) -> Iterator[None]:
    token = _reading.set(read)
    try:
        yield
    finally:
        _reading.reset(token)


def _redirected(original: _Read) -> _Read:
    @functools.wraps(original)
    def chunked_read(*arguments: Any) -> bytes:
        read = _reading.get() or original
        return read(*arguments)

    return chunked_read
