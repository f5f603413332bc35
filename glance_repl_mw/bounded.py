"""Keeps an answer of Glance or Keystone from filling the memory, or from never ending.

Only the data of images may be of any size and take any time: its reader takes it in blocks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import requests
from keystoneauth1 import session

MOST_BYTES = 64 << 20
MOST_SECONDS = 600.0
_DATA = "application/octet-stream"


class AnswerTooLarge(requests.RequestException):
    """An answer has more than ``MOST_BYTES``, unpacked."""


class AnswerTooSlow(requests.RequestException):
    """An answer has not ended after ``MOST_SECONDS``."""


class BoundedResponse(requests.Response):
    """Raises in the middle of reading what goes beyond the bounds, and closes the connection."""

    def iter_content(self, chunk_size: int | None = 1, decode_unicode: bool = False) -> Any:
        blocks = super().iter_content(chunk_size, decode_unicode)
        # Glance's client hands such a body on in blocks, unless it tells of an error.
        is_data = self.ok and self.headers.get("Content-Type") == _DATA
        return blocks if is_data else self._bounded(blocks)

    def _bounded(self, blocks: Iterator[Any]) -> Iterator[Any]:
        count, end = 0, time.monotonic() + MOST_SECONDS
        for block in blocks:
            count += len(block)
            if count > MOST_BYTES:
                self.close()
                raise AnswerTooLarge(f"the answer has more than {MOST_BYTES} bytes")
            if time.monotonic() > end:
                self.close()
                raise AnswerTooSlow(f"the answer takes more than {MOST_SECONDS:.0f} s")
            yield block


class _Adapter(session.TCPKeepAliveAdapter):
    def build_response(self, req: Any, resp: Any) -> requests.Response:
        bounded = BoundedResponse()
        bounded.__dict__.update(super().build_response(req, resp).__dict__)
        return bounded


def bound(http: requests.Session) -> None:
    """Bound all answers that the session reads from now on."""
    for scheme in ("http://", "https://"):
        http.mount(scheme, _Adapter())
