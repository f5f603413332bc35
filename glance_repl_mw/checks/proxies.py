# SPDX-License-Identifier: Apache-2.0
"""Does a proxy of the environment stand between the service user and Glance or Keystone?"""

from __future__ import annotations

from collections.abc import Iterator
from urllib import parse

from glance_repl_mw import proxies
from glance_repl_mw.checks.finding import Finding, note, warning


def check(where: str, url: str | None) -> Iterator[Finding]:
    """Say by which proxy this URL is asked; what it is depends on the environment of this command.

    :param where: what it is the URL of
    """
    proxy = proxies.proxy_for(url) if url else None
    if not url or not proxy:
        return
    text = f"{url} is asked through the proxy {proxy}, which the environment names"
    if proxies.is_near(url):
        host = parse.urlsplit(url).hostname
        remedy = (
            f"add {host} to no_proxy in the environment of this command, of glance-api and of "
            "glance-repl-writer"
        )
        yield warning(where, text, remedy)
    else:
        yield note(where, text)
