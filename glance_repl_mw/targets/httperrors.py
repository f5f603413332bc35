# SPDX-License-Identifier: Apache-2.0
"""The errors of the HTTP server of a target, and what operators are told of its settings."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator

import requests
from urllib3 import exceptions as urllib3_exceptions

from glance_repl_mw import exceptions
from glance_repl_mw.foreign_text import gist, printable
from glance_repl_mw.network_errors import explained
from glance_repl_mw.targets import bodies
from glance_repl_mw.targets.access import Access
from glance_repl_mw.targets.headers import encoding
from glance_repl_mw.targets.retryafter import retry_after_seconds
from glance_repl_mw.urls import without_queries, without_query, without_user_info

RAISE_LIMIT = "raise its limit (nginx: client_max_body_size 0; Apache: LimitRequestBody 0)"
TOO_LARGE = f"the server takes no body of that size: {RAISE_LIMIT}"
COMPRESSED = (
    "the server compresses what it sends (Content-Encoding: {encoding}), and Glance would give "
    "these bytes to its users; switch compression off for this location"
)
_WORTH_A_RETRY = frozenset({408, 425, 429})
_REASON_CHARACTERS = 100
_HINT_CHARACTERS = 200
_UNCUT_CHARACTERS = 2000
# More than the gist of a page is looked for in, so that no secret is cut there.
_PAGE_BYTES = 16 * 1024


class Errors:
    """Makes the errors of one target, none of which shows a secret; shared by all threads."""

    def __init__(self, target: str, access: Access) -> None:
        self._target = target
        self._access = access

    def refusal(
        self, operation: str, response: requests.Response, end: float = math.inf
    ) -> exceptions.TargetError:
        """The error that an answer means, whose page is read until ``end`` at most."""
        status = response.status_code
        kind: type[exceptions.TargetError] = exceptions.TargetRefused
        if status >= 500 or status in _WORTH_A_RETRY:
            kind = exceptions.TargetUnavailable
        elif status in (404, 410) and response.request.method == "GET":
            kind = exceptions.ReplicaMissing
        asked = f"{response.request.method} {without_query(str(response.url))}"
        hint = f"{asked}: {self._told(response, end)}"
        if status == 413:
            hint += f"; {TOO_LARGE}"
        error = self.error(kind, operation, hint)
        if isinstance(error, exceptions.TargetUnavailable):
            error.retry_after_seconds = retry_after_seconds(response.headers.get("Retry-After"))
        return error

    def _told(self, response: requests.Response, end: float) -> str:
        """Status, reason and the gist of the page of an answer, each said once."""
        reason = self._shown(response.reason or "", _REASON_CHARACTERS)
        told = f"{response.status_code} {reason}".rstrip()
        is_text = response.headers.get("Content-Type", "").startswith("text/")
        if not is_text or encoding(response.headers):
            return told
        seconds = min(self._access.stall_seconds, end - time.monotonic())
        page = bodies.beginning(response, seconds)[:_PAGE_BYTES].decode("utf-8", "replace")
        text = self._shown(gist(self._without_secrets(page), _UNCUT_CHARACTERS), _HINT_CHARACTERS)
        is_news = any(each.isalnum() for each in text) and text.lower() not in told.lower()
        return f"{told}: {text}" if is_news else told

    def _shown(self, text: str, most: int) -> str:
        """Text of the server's, fit to be shown: no part of a secret stays when it is cut."""
        return printable(self._without_secrets(text[:_UNCUT_CHARACTERS]), most)

    def error(
        self, kind: type[exceptions.TargetError], operation: str, hint: str
    ) -> exceptions.TargetError:
        """An error of this kind."""
        return kind(target=self._target, operation=operation, hint=self._without_secrets(hint))

    def _without_secrets(self, text: str) -> str:
        """The text without our secrets, and without those that others put into URLs."""
        for secret in self._access.secrets:
            text = text.replace(secret, "***")
        return without_queries(without_user_info(text))

    @contextlib.contextmanager
    def translating(
        self, operation: str, method: str, url: str, seconds: float | None = None
    ) -> Iterator[None]:
        """Turn the errors of requests and urllib3 into ``TargetUnavailable``."""
        try:
            yield
        except (requests.RequestException, urllib3_exceptions.HTTPError) as error:
            asked = f"{method} {printable(without_query(url), 500)}"
            hint = f"{asked}: {self._explain(error, url, seconds)}"
            raise self.error(exceptions.TargetUnavailable, operation, hint) from error

    def _explain(self, error: Exception, url: str, seconds: float | None) -> str:
        longest = seconds or float("inf")
        if isinstance(error, requests.ConnectTimeout):
            return f"no connection within {min(longest, self._access.connect_seconds):g} s"
        if isinstance(error, requests.ReadTimeout | urllib3_exceptions.ReadTimeoutError):
            return f"no answer for {min(longest, self._access.stall_seconds):g} s"
        return explained(error, url)
