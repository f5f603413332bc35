"""Requests to one HTTP server: connections, credentials, and errors in the project's own words."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import ssl
import time
from collections.abc import Collection, Iterator, Mapping
from http import cookiejar
from typing import Any

import requests
from requests import adapters, auth
from urllib3.exceptions import HTTPError, ReadTimeoutError
from urllib3.util import Timeout

from glance_repl_mw import exceptions
from glance_repl_mw.signing import without_signatures
from glance_repl_mw.targets.access import Access
from glance_repl_mw.targets.retryafter import retry_after_seconds
from glance_repl_mw.targets.sendfile import FreshAdapter, Upload

_BLOCK_BYTES = 1024**2
_TEXT_BYTES = 64 * 1024
_HINT_CHARACTERS = 200
_MARKUP = re.compile(r"<[^>]*>")
_WORTH_A_RETRY = frozenset({408, 425, 429})


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the server said; ``content`` is the beginning of its body, or all if wanted."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Client:
    """Sends requests for one target; shared by all threads.

    Small requests share kept connections. ``upload``, and what must not be sent twice, have a
    connection of their own. Nothing is taken from the environment, and no cookie is kept.
    """

    def __init__(self, target: str, access: Access) -> None:
        self._target = target
        self._access = access
        self._kept = self._session(adapters.HTTPAdapter)
        self._fresh = self._session(FreshAdapter)

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
        whole: bool = False,
        seconds: float | None = None,
    ) -> Answer:
        """Send a request; returns the answer if its status is one of ``allow``.

        :param once: never send it again, not even when a kept connection had been closed
        :param anonymous: without credentials
        :param whole: read the whole body of the answer
        :param seconds: until the answer, where the configured timeouts are longer
        :raises TargetUnavailable:
        :raises TargetRefused:
        """
        request = requests.Request(method, url, headers=headers, data=body)
        with self._translating(operation, f"{method} {url}", seconds):
            if once:
                response = self._send(self._fresh, request, anonymous, seconds)
            else:
                response = self._send_again(request, anonymous, seconds)
        return self._finish(operation, response, allow, whole)

    def upload(self, operation: str, url: str, upload: Upload, allow: Collection[int]) -> Answer:
        """PUT a body that can be read only once; the answer may come before its end.

        :raises UploadCut: passed on from the reader, after the connection was broken off
        :raises TargetUnavailable:
        :raises TargetRefused:
        """
        request = requests.Request("PUT", url, data=upload)
        with self._translating(operation, f"PUT {url}"):
            response = self._send(self._fresh, request, size=upload.size)
        return self._finish(operation, response, allow)

    def blocks(
        self, operation: str, url: str, offset: int = 0, anonymous: bool = False
    ) -> Iterator[bytes]:
        """The bytes behind a URL from ``offset`` on, as they are sent; follows redirects.

        :raises ReplicaMissing: there is nothing
        :raises TargetUnavailable: also while the blocks are read
        :raises TargetRefused: also where the server cannot begin at an offset
        """
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        request = requests.Request("GET", url, headers=headers)
        with self._translating(operation, f"GET {url}"):
            response = self._send_again(request, anonymous, redirects=True)
        if response.status_code != (206 if offset else 200):
            with response:
                raise self._refusal(operation, response)
        return self._stream(operation, response)

    def begin(
        self, operation: str, url: str, allow: Collection[int], count: int, seconds: float
    ) -> Answer:
        """GET the first ``count`` bytes as somebody does who was never here.

        That is: on a new connection, without credentials; follows redirects.

        :param seconds: until the answer, and again until its bytes are there
        :raises TargetUnavailable:
        :raises TargetRefused:
        """
        request = requests.Request("GET", url, headers={"Range": f"bytes=0-{count - 1}"})
        with self._translating(operation, f"GET {url}", seconds):
            response = self._send(self._fresh, request, True, seconds, redirects=True)
            with response:
                if response.status_code not in allow:
                    raise self._refusal(operation, response)
                content, end = b"", time.monotonic() + seconds
                while len(content) < count and (more := response.raw.read1(count - len(content))):
                    content += more
                    if time.monotonic() > end:
                        hint = f"GET {url}: only {len(content)} bytes within {seconds:g} s"
                        raise self.error(exceptions.TargetUnavailable, operation, hint)
                return Answer(response.status_code, response.headers, content)

    def _stream(self, operation: str, response: requests.Response) -> Iterator[bytes]:
        with response, self._translating(operation, f"GET {response.url}"):
            yield from response.raw.stream(_BLOCK_BYTES, decode_content=False)

    def _session(self, adapter: type[adapters.HTTPAdapter]) -> requests.Session:
        session = requests.Session()
        session.trust_env = False
        session.cookies.set_policy(cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        session.headers.update({"Accept-Encoding": "identity", "User-Agent": "glance-repl-mw"})
        for scheme in ("http://", "https://"):
            session.mount(scheme, adapter(pool_maxsize=self._access.connections))
        return session

    def _send_again(
        self,
        request: requests.Request,
        anonymous: bool = False,
        seconds: float | None = None,
        redirects: bool = False,
    ) -> requests.Response:
        """Send on a kept connection, and once more when the server had just closed that one."""
        try:
            return self._send(self._kept, request, anonymous, seconds, redirects)
        except requests.ConnectionError as error:
            if not isinstance(_root(error), ConnectionError):
                raise
        return self._send(self._kept, request, anonymous, seconds, redirects)

    def _send(
        self,
        session: requests.Session,
        request: requests.Request,
        anonymous: bool = False,
        seconds: float | None = None,
        redirects: bool = False,
        size: int | None = None,
    ) -> requests.Response:
        access = self._access
        if access.authorization and not anonymous:
            request.auth = _Authorization(access.authorization)
        prepared = session.prepare_request(request)
        if size is not None:
            del prepared.headers["Transfer-Encoding"]
            prepared.headers["Content-Length"] = str(size)
        timeout: Any = Timeout(seconds, access.connect_seconds, access.stall_seconds)
        return session.send(
            prepared,
            stream=True,
            allow_redirects=redirects,
            timeout=timeout,
            verify=access.ca_file or True,
            cert=None if anonymous else access.certificate,
        )

    def _finish(
        self,
        operation: str,
        response: requests.Response,
        allow: Collection[int],
        whole: bool = False,
    ) -> Answer:
        with response:
            if response.status_code not in allow:
                raise self._refusal(operation, response)
            if whole:
                with self._translating(operation, f"{response.request.method} {response.url}"):
                    content = response.content
            else:
                content = _beginning(response)
            return Answer(response.status_code, response.headers, content)

    def _refusal(self, operation: str, response: requests.Response) -> exceptions.TargetError:
        """The error that an answer means."""
        status = response.status_code
        kind: type[exceptions.TargetError] = exceptions.TargetRefused
        if status >= 500 or status in _WORTH_A_RETRY:
            kind = exceptions.TargetUnavailable
        elif status in (404, 410) and response.request.method == "GET":
            kind = exceptions.ReplicaMissing
        hint = f"{response.request.method} {response.url}: {status} {response.reason}"
        if response.headers.get("Content-Type", "").startswith("text/"):
            text = self._without_secrets(_beginning(response).decode("utf-8", "replace"))
            text = _MARKUP.sub(" ", text)
            printable = "".join(c if c.isprintable() else " " for c in text)
            hint += f": {' '.join(printable.split())[:_HINT_CHARACTERS]}"
        error = self.error(kind, operation, hint)
        if isinstance(error, exceptions.TargetUnavailable):
            error.retry_after_seconds = retry_after_seconds(response.headers.get("Retry-After"))
        return error

    def error(
        self, kind: type[exceptions.TargetError], operation: str, hint: str
    ) -> exceptions.TargetError:
        return kind(target=self._target, operation=operation, hint=self._without_secrets(hint))

    def _without_secrets(self, text: str) -> str:
        for secret in self._access.secrets:
            text = text.replace(secret, "***")
        return without_signatures(text)

    @contextlib.contextmanager
    def _translating(
        self, operation: str, what: str, seconds: float | None = None
    ) -> Iterator[None]:
        """Turn the errors of requests and urllib3 into ``TargetUnavailable``."""
        try:
            yield
        except (requests.RequestException, HTTPError) as error:
            hint = f"{what}: {self._explain(error, seconds)}"
            raise self.error(exceptions.TargetUnavailable, operation, hint) from error

    def _explain(self, error: Exception, seconds: float | None) -> str:
        longest = seconds or float("inf")
        root = _root(error)
        if isinstance(root, ssl.SSLCertVerificationError):
            return f"the server's certificate is not accepted: {root.verify_message} (ca_file?)"
        if isinstance(error, requests.ConnectTimeout):
            return f"no connection within {min(longest, self._access.connect_seconds):g} s"
        if isinstance(error, requests.ReadTimeout | ReadTimeoutError):
            return f"no answer for {min(longest, self._access.stall_seconds):g} s"
        return str(root) or type(root).__name__


class _Authorization(auth.AuthBase):
    def __init__(self, value: str) -> None:
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._value
        return request


def _beginning(response: requests.Response) -> bytes:
    """The beginning of an answer's body; whatever goes wrong here, the status is known."""
    try:
        return next(response.iter_content(_TEXT_BYTES), b"")
    except (requests.RequestException, HTTPError, OSError):
        return b""


def _root(error: BaseException) -> BaseException:
    """What the wrappers of requests and urllib3 are about."""
    inner = getattr(error, "reason", None) or (error.args[-1] if error.args else None)
    return _root(inner) if isinstance(inner, BaseException) else error
