# SPDX-License-Identifier: Apache-2.0
"""Keeps an answer of Glance or Keystone from filling the memory, or from never ending.

Its head must be there within the timeout of the session, and its end within ten minutes. Only the
data of images may be of any size and take any time: its reader takes it in parts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import requests
from keystoneauth1 import session

from glance_repl_mw.connections import BoundedResponse, KeptAdapter

MOST_BYTES = 64 << 20
MOST_SECONDS = 600.0
_DATA = "application/octet-stream"


class AnswerTooLarge(requests.RequestException):
    """An answer has more than ``MOST_BYTES``, unpacked."""


class AnswerTooSlow(requests.RequestException):
    """An answer has not ended after ``MOST_SECONDS``."""


class BoundedAnswer(requests.Response):
    """Raises in the middle of reading what goes beyond the bounds, and closes the connection."""

    def begin(self) -> None:
        """Its head is there: let its body take so long from now on."""
        self._end = time.monotonic() + MOST_SECONDS
        _allow(self, MOST_SECONDS)

    def iter_content(self, chunk_size: int | None = 1, decode_unicode: bool = False) -> Any:
        blocks = super().iter_content(chunk_size, decode_unicode)
        # Glance's client hands such a body on in blocks, unless it tells of an error.
        is_data = self.ok and self.headers.get("Content-Type") == _DATA
        return blocks if is_data else self._bounded(blocks)

    def _bounded(self, blocks: Iterator[Any]) -> Iterator[Any]:
        count = 0
        try:
            for block in blocks:
                count += len(block)
                if count > MOST_BYTES:
                    self.close()
                    raise AnswerTooLarge(f"the answer has more than {MOST_BYTES} bytes")
                yield block
        except requests.RequestException as error:
            error.request = error.request or self.request
            if isinstance(error, AnswerTooLarge) or time.monotonic() < self._end:
                raise
            hint = f"the answer takes more than {MOST_SECONDS:g} s"
            raise AnswerTooSlow(hint, request=self.request) from error


def part(response: requests.Response, most_bytes: int) -> bytes:
    """What is there next of an image's data, b"" at its end.

    Waits for it no longer than the session's timeout, whatever comes that is no data.

    :raises urllib3.exceptions.HTTPError:
    """
    _allow(response)
    return response.raw.read1(most_bytes, decode_content=True)


def _allow(response: requests.Response, seconds: float | None = None) -> None:
    # requests and urllib3 hand the answer of http.client through.
    answer = response.raw._original_response
    # It is another one only where a SOCKS proxy leads to the server.
    if isinstance(answer, BoundedResponse):
        answer.allow(seconds)


class _Adapter(KeptAdapter, session.TCPKeepAliveAdapter):
    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = self.pools
        return manager

    def build_response(self, req: Any, resp: Any) -> requests.Response:
        bounded = BoundedAnswer()
        bounded.__dict__.update(super().build_response(req, resp).__dict__)
        bounded.begin()
        return bounded


def bound(http: requests.Session) -> None:
    """Bound all answers that the session reads from now on."""
    for scheme in ("http://", "https://"):
        http.mount(scheme, _Adapter())
