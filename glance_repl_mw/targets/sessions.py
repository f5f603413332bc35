# SPDX-License-Identifier: Apache-2.0
"""Sessions of requests that follow nothing, keep no cookie and take nothing from elsewhere."""

from __future__ import annotations

from http import cookiejar

import requests
from requests import adapters, auth


class _Session(requests.Session):
    """Follows no redirect, and reads nothing of one: requests would read the whole body."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


class Authorization(auth.AuthBase):
    """Sends this value of the header."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._value
        return request


def plain_session(adapter: type[adapters.HTTPAdapter], connections: int) -> requests.Session:
    """A session for one target, whose connections are those of the adapter.

    :param connections: how many are worth keeping
    """
    session = _Session()
    session.trust_env = False
    session.cookies.set_policy(cookiejar.DefaultCookiePolicy(allowed_domains=[]))
    session.headers.update({"Accept-Encoding": "identity", "User-Agent": "glance-repl-mw"})
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter(pool_maxsize=connections))
    return session
