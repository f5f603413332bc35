# SPDX-License-Identifier: Apache-2.0
"""Requests to one HTTP server: connections, credentials, and errors in the project's own words."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import requests
from urllib3.exceptions import ReadTimeoutError
from urllib3.util import Timeout

from glance_repl_mw import exceptions, network_errors
from glance_repl_mw.connections import ExpectingAdapter, KeptAdapter
from glance_repl_mw.foreign_text import printable
from glance_repl_mw.targets import bodies, httperrors
from glance_repl_mw.targets.access import Access
from glance_repl_mw.targets.headers import encoding
from glance_repl_mw.targets.httpconfig import origin
from glance_repl_mw.targets.httperrors import Errors
from glance_repl_mw.targets.sendfile import FreshAdapter, Upload
from glance_repl_mw.targets.sessions import Authorization, plain_session
from glance_repl_mw.urls import without_query

# As Glance's http store asks, by requests' own default, and follows: it takes the fifth answer, so
# four redirects, of these kinds only, and each must name a whole URL.
AS_GLANCE_ASKS: Mapping[str, str] = {
    "Accept-Encoding": str(requests.utils.default_headers()["Accept-Encoding"])
}
_MOST_ANSWERS = 5
_FOLLOWED = (301, 302)
_LONGEST_URL = 8192


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the server said; ``content`` is the beginning of its body."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class NotAsGlanceReads(exceptions.TargetRefused):
    """Glance could not read this location, or would read other bytes than are there."""


class Client:
    """Sends requests for one target; shared by all threads.

    Small requests share kept connections. ``upload``, and what must not be sent twice, have a
    connection of their own. Nothing is taken from the environment, and no cookie is kept.
    """

    def __init__(self, target: str, access: Access) -> None:
        self.target = target
        self._access = access
        self._errors = Errors(target, access)
        self._kept = plain_session(KeptAdapter, access.connections)
        self._fresh = plain_session(FreshAdapter, access.connections)

    @property
    def stall_seconds(self) -> float:
        return self._access.stall_seconds

    @property
    def sends_credentials(self) -> bool:
        return self._access.authorization is not None

    @property
    def is_anonymous(self) -> bool:
        return self._access.is_anonymous

    def close(self) -> None:
        self._kept.close()
        self._fresh.close()

    def request(
        self,
        operation: str,
        method: str,
        url: str,
        allow: Collection[int],
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        once: bool = False,
        anonymous: bool = False,
        seconds: float | None = None,
    ) -> Answer:
        """Send a request; returns the answer if its status is one of ``allow``.

        :param once: never send it again, not even when a kept connection had been closed
        :param anonymous: without credentials
        :param seconds: until the answer, where the configured timeouts are longer
        :raises TargetUnavailable:
        :raises TargetRefused:
        """
        request = requests.Request(method, url, headers=headers, data=body)
        with self._errors.translating(operation, method, url, seconds):
            if once:
                response = self._send(self._fresh, request, anonymous, seconds)
            else:
                response = self._send_again(request, anonymous, seconds)
        return self._finish(operation, response, allow)

    def upload(self, operation: str, url: str, upload: Upload, allow: Collection[int]) -> Answer:
        """PUT a body that can be read only once; the answer may come before its end.

        :raises UploadCut: passed on from the reader, after the connection was broken off
        :raises TargetUnavailable:
        :raises TargetRefused:
        """
        request = requests.Request("PUT", url, data=upload)
        with self._errors.translating(operation, "PUT", url):
            response = self._send(self._fresh, request, size=upload.size)
        return self._finish(operation, response, allow)

    def announce(self, operation: str, method: str, url: str, size: int, seconds: float) -> int:
        """The status with which the server refuses a body that is announced, and never sent.

        :raises TargetUnavailable: also where the server wants the body
        """
        request = requests.Request(method, url, headers={"Expect": "100-continue"})
        with (
            self._errors.translating(operation, method, url, seconds),
            plain_session(ExpectingAdapter, self._access.connections) as session,
            self._send(session, request, seconds=seconds, size=size) as response,
        ):
            return response.status_code

    @contextlib.contextmanager
    def streaming(
        self,
        operation: str,
        method: str,
        url: str,
        allow: Collection[int],
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Send a request whose answer may be long; gives its status and the blocks of its body.

        :raises TargetUnavailable: also while the blocks are read
        :raises TargetRefused:
        """
        request = requests.Request(method, url, headers=headers, data=body)
        with self._errors.translating(operation, method, url):
            response = self._send_again(request)
        with response:
            if response.status_code not in allow:
                raise self._errors.refusal(operation, response)
            yield response.status_code, self._blocks(operation, response)

    def blocks(
        self, operation: str, url: str, offset: int = 0, anonymous: bool = False
    ) -> Iterator[bytes]:
        """The bytes behind a URL from ``offset`` on, as Glance reads them; follows redirects.

        :raises ReplicaMissing: there is nothing
        :raises TargetUnavailable: also while the blocks are read
        :raises TargetRefused: also where the server cannot begin at an offset, or compresses
        """
        asked = {"Range": f"bytes={offset}-"} if offset else {}
        response = self._follow(operation, "GET", url, asked, anonymous=anonymous)
        if response.status_code != (206 if offset else 200):
            with response:
                raise self._errors.refusal(operation, response)
        return self._closing(operation, response)

    def head(self, operation: str, url: str, allow: Collection[int]) -> Answer:
        """HEAD as Glance asks before it takes a location: without credentials.

        :raises TargetUnavailable:
        :raises TargetRefused: also where the server compresses
        """
        response = self._follow(operation, "HEAD", url, {}, anonymous=True)
        answer = self._finish(operation, response, allow)
        if answer.status < 300:
            self.require_plain(operation, "HEAD", url, answer.headers)
        return answer

    def begin(
        self, operation: str, url: str, allow: Collection[int], count: int, seconds: float
    ) -> Answer:
        """GET the first ``count`` bytes as Glance does, which was never here.

        That is: on a new connection, without credentials; follows redirects.

        :param seconds: until the answer, and again until its bytes are there
        :raises TargetUnavailable:
        :raises TargetRefused: also where the server compresses
        """
        asked = {"Range": f"bytes=0-{count - 1}"}
        response = self._follow(
            operation, "GET", url, asked, anonymous=True, once=True, seconds=seconds
        )
        end = time.monotonic() + seconds
        return self._begun(operation, response, allow, count, seconds, end)

    def read(
        self, operation: str, url: str, allow: Collection[int], count: int, seconds: float
    ) -> Answer:
        """GET the first ``count`` bytes where they are written, on a new connection.

        :param seconds: until its bytes are there
        :raises TargetUnavailable:
        :raises TargetRefused: also where the server compresses
        """
        end = time.monotonic() + seconds
        with self._errors.translating(operation, "GET", url, seconds):
            response = self._send(self._fresh, requests.Request("GET", url), seconds=seconds)
        return self._begun(operation, response, allow, count, seconds, end)

    def _begun(
        self,
        operation: str,
        response: requests.Response,
        allow: Collection[int],
        count: int,
        seconds: float,
        end: float,
    ) -> Answer:
        """The answer with the first ``count`` bytes, which must be the object's own.

        :param seconds: as the error tells how long was waited
        :param end: until when
        """
        with response:
            if response.status_code not in allow:
                raise self._errors.refusal(operation, response, end)
            if response.status_code < 300:
                url = str(response.url)
                self.require_plain(operation, "GET", url, response.headers)
            content = self._first(operation, response, count, seconds, end)
            return Answer(response.status_code, response.headers, content)

    def require_plain(
        self, operation: str, method: str, url: str, answered: Mapping[str, str]
    ) -> None:
        """See that the bytes of an answer are the object's own.

        :raises TargetRefused:
        """
        found = encoding(answered)
        if found:
            why = httperrors.COMPRESSED.format(encoding=found)
            hint = f"{method} {without_query(url)}: {why}"
            raise self.error(NotAsGlanceReads, operation, hint)

    def _first(
        self,
        operation: str,
        response: requests.Response,
        count: int,
        seconds: float,
        end: float,
    ) -> bytes:
        """The first ``count`` bytes of a body, or all, in time."""
        content, url = b"", str(response.url)
        with self._errors.translating(operation, "GET", url, seconds):
            try:
                while len(content) < count:
                    left = end - time.monotonic()
                    more = bodies.part(response, count - len(content), left)
                    if not more:
                        break
                    content += more
            except ReadTimeoutError:
                if not content:
                    raise
                hint = f"GET {without_query(url)}: only {len(content)} bytes within {seconds:g} s"
                raise self.error(exceptions.TargetUnavailable, operation, hint) from None
        return content

    def _closing(self, operation: str, response: requests.Response) -> Iterator[bytes]:
        with response:
            yield from self._blocks(operation, response)

    def _blocks(self, operation: str, response: requests.Response) -> Iterator[bytes]:
        """The body as it is sent, which must be as the object is."""
        method, url = str(response.request.method), str(response.url)
        self.require_plain(operation, method, url, response.headers)
        with self._errors.translating(operation, method, url):
            yield from bodies.blocks(response, self._access.stall_seconds)

    def _follow(
        self,
        operation: str,
        method: str,
        url: str,
        asked: Mapping[str, str],
        *,
        anonymous: bool,
        once: bool = False,
        seconds: float | None = None,
    ) -> requests.Response:
        """Ask as Glance does, and follow as it does; credentials stay with the origin of ``url``.

        :raises TargetUnavailable:
        :raises TargetRefused: it leads nowhere that Glance would follow to
        """
        end = time.monotonic() + (seconds or 0)
        here = url
        for _ in range(_MOST_ANSWERS):
            request = requests.Request(method, here, headers={**AS_GLANCE_ASKS, **asked})
            stranger = anonymous or origin(here) != origin(url)
            left = max(0.01, end - time.monotonic()) if seconds else None
            with self._errors.translating(operation, method, here, seconds):
                if once:
                    response = self._send(self._fresh, request, stranger, left)
                else:
                    response = self._send_again(request, stranger, left)
            if not 300 <= response.status_code < 400 or "Location" not in response.headers:
                return response
            with response:
                here = self._next(operation, response)
        hint = (
            f"{method} {url}: more than {_MOST_ANSWERS - 1} redirects, and Glance follows no more"
        )
        raise self.error(NotAsGlanceReads, operation, hint)

    def _next(self, operation: str, response: requests.Response) -> str:
        """Where a redirect leads.

        :raises NotAsGlanceReads: Glance would not follow it
        """
        status, where = response.status_code, response.headers["Location"]
        why = ""
        if status not in _FOLLOWED:
            why = "Glance follows only 301 and 302"
        elif not where.startswith(("http://", "https://")) or len(where) > _LONGEST_URL:
            why = "Glance follows only whole URLs of http and https"
        else:
            try:
                origin(where)
            except ValueError:
                why = "that is no URL"
        if why:
            asked = f"{response.request.method} {without_query(str(response.url))}"
            hint = f"{asked}: {status} leads to {printable(without_query(where))}"
            raise self.error(NotAsGlanceReads, operation, f"{hint}; {why}")
        return where

    def _send_again(
        self,
        request: requests.Request,
        anonymous: bool = False,
        seconds: float | None = None,
    ) -> requests.Response:
        """Send on a kept connection, and once more when the server had just closed that one."""
        try:
            return self._send(self._kept, request, anonymous, seconds)
        except requests.ConnectionError as error:
            if not isinstance(network_errors.root_of(error), ConnectionError):
                raise
        return self._send(self._kept, request, anonymous, seconds)

    def _send(
        self,
        session: requests.Session,
        request: requests.Request,
        anonymous: bool = False,
        seconds: float | None = None,
        size: int | None = None,
    ) -> requests.Response:
        access = self._access
        if access.authorization and not anonymous:
            request.auth = Authorization(access.authorization)
        prepared = session.prepare_request(request)
        if size is not None:
            prepared.headers.pop("Transfer-Encoding", None)
            prepared.headers["Content-Length"] = str(size)
        timeout: Any = Timeout(seconds, access.connect_seconds, access.stall_seconds)
        return session.send(
            prepared,
            stream=True,
            allow_redirects=False,
            timeout=timeout,
            verify=access.ca_file or True,
            cert=None if anonymous else access.certificate,
        )

    def _finish(
        self, operation: str, response: requests.Response, allow: Collection[int]
    ) -> Answer:
        with response:
            if response.status_code not in allow:
                raise self._errors.refusal(operation, response)
            content = bodies.beginning(response, self._access.stall_seconds)
            return Answer(response.status_code, response.headers, content)

    def error(
        self, kind: type[exceptions.TargetError], operation: str, hint: str
    ) -> exceptions.TargetError:
        """An error of this target, whose hint shows no secret."""
        return self._errors.error(kind, operation, hint)
