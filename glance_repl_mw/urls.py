# SPDX-License-Identifier: Apache-2.0
"""URLs and what of them may be shown.

A password with special characters ends too early for who parses its URL, so that a part of it is
taken for a host, a port or a path. Errors of parsing, and of connecting, quote such a part.

The query of a URL that others made may be a signature, with which anybody can read what it names.
"""

from __future__ import annotations

import re
from collections.abc import Set
from urllib import parse

NOT_A_URL = "is not a URL; write special characters of a password as %XX"
# Also where the password holds what ends an authority; but a port and a path are none.
# Each repetition has a limit, since what is searched may be made to take long.
_USER_INFO = re.compile(
    r"(?<=://)(?:[^/\s@]{1,500}(?:@[^/\s@]{1,500}){0,9}|[^/\s@:\[]{0,100}:(?!\d*[/?#\s])\S{0,500})@"
)
# A query, or a fragment, up to the end of the word or what a sentence puts behind a URL.
_QUERY = re.compile(
    r"""(?:(?P<url>\bhttps?://[^\s?#"<>]{0,500})[?#]|\?[^\s?="<>]{1,100}=)"""
    r"""[^\s"<>]*?(?=['":;,.)\]]{0,3}(?:[\s"<>]|$))"""
)
_SPECIAL = re.compile(r"[/?#@:\[\]]")
_SHORTEST_PART = 4


def without_user_info(text: str) -> str:
    """Any text, without user and password in the URLs that it quotes."""
    return _USER_INFO.sub("***@", text)


def without_query(url: str) -> str:
    """A URL, whatever it holds, up to its query."""
    return re.split("[?#]", url, maxsplit=1)[0]


def without_queries(text: str) -> str:
    """Any text, without the queries of the URLs that it quotes, whole ones or paths."""
    return _QUERY.sub(lambda found: found["url"] or "", text)


def is_cut_by_password(url: str) -> bool:
    """Whether a character that ends the authority stands before the ``@`` that ends the user's.

    In the value of an option in the query the character has no such meaning.
    """
    _, _, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    behind, _, _ = rest[len(authority) :].partition("=")
    return bool(authority) and "@" in behind


def is_url(url: str) -> bool:
    """Whether it can be taken apart, and its password ends where it should."""
    try:
        parts = parse.urlsplit(url)
        has_place = bool(parts.scheme) and parts.port != 0
    except ValueError:
        return False
    return has_place and not is_cut_by_password(url)


def is_http_url(url: str) -> bool:
    """Whether it has the form ``http(s)://[USER[:PASSWORD]@]HOST[:PORT][/PATH]``."""
    is_http = url.startswith(("http://", "https://")) and is_url(url)
    return is_http and bool(parse.urlsplit(url).hostname)


def secrets_in(url: str) -> Set[str]:
    """The password of a URL as it may appear in a text: decoded, or a part where it is cut."""
    user_info, at, _ = url.partition("://")[2].rpartition("@")
    password = user_info.partition(":")[2]
    if not at or not password:
        return set()
    parts = {part for part in _SPECIAL.split(password) if len(part) >= _SHORTEST_PART}
    return parts | {password, parse.unquote(password)}
