# SPDX-License-Identifier: Apache-2.0
"""URLs with a signature that ends, as the secure_link module of nginx checks it."""

from __future__ import annotations

import base64
import calendar
import hashlib
import re
from urllib import parse

from oslo_utils import timeutils

# The ampersand may have been escaped, where this is searched in a text.
_SIGNATURE = re.compile(r"\?md5=[A-Za-z0-9_-]+(?:&|&amp;|\\u0026)expires=([0-9]+)")
_STEPS = 8


def without_signatures(text: str) -> str:
    """A URL, or any text that quotes URLs, without their signatures."""
    return _SIGNATURE.sub("", text)


class Signer:
    """Signs URLs; used by any thread.

    nginx compares the md5 of ``EXPIRES PATH BLANK KEY``, where the path is without escapes.

    :param valid_seconds: how long a new signature is good, at least; at most an eighth longer
    """

    def __init__(self, key: str, valid_seconds: int) -> None:
        self._key = key
        self._valid_seconds = valid_seconds
        self.step_seconds = valid_seconds // _STEPS

    def signed(self, url: str) -> str:
        """The URL with a signature: its own if that has half of its time left, else a new one.

        New signatures end at round times, so that two writers, or one that has forgotten what it
        did, sign alike.
        """
        now = calendar.timegm(timeutils.utcnow().utctimetuple())
        plain = without_signatures(url)
        found = _SIGNATURE.search(url)
        longest = self._valid_seconds + self.step_seconds
        if found and self._valid_seconds / 2 <= int(found[1]) - now <= longest:
            same = self._sign(plain, int(found[1]))
            if same == url:
                return url
        return self._sign(plain, (now + longest) // self.step_seconds * self.step_seconds)

    def _sign(self, url: str, expires: int) -> str:
        path = parse.unquote_to_bytes(parse.urlsplit(url).path)
        text = b"%d%s %s" % (expires, path, self._key.encode())
        digest = hashlib.md5(text, usedforsecurity=False).digest()
        encoded = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        return f"{url}?md5={encoded}&expires={expires}"
