# SPDX-License-Identifier: Apache-2.0
"""What a server's headers say, read without trust: whatever is odd counts as not said."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

from glance_repl_mw.foreign_text import printable

# No object has more bytes than a signed number of 64 bits tells.
_NUMBER = re.compile(r"[0-9]{1,18}")


def whole_number(text: str | None) -> int | None:
    """A number of bytes, None where it is none or no object could have as many."""
    found = _NUMBER.fullmatch((text or "").strip())
    return int(found[0]) if found else None


def whole_size(content_range: str | None) -> int | None:
    """The size of the object that a Content-Range header tells, None where it does not."""
    return whole_number((content_range or "").rpartition("/")[2])


def md5(content_md5: str | None) -> str | None:
    """The hex form of a Content-MD5 header, None where it is not one."""
    try:
        digest = base64.b64decode(content_md5 or "", validate=True)
    except ValueError:
        return None
    return digest.hex() if len(digest) == 16 else None


def encoding(headers: Mapping[str, str]) -> str:
    """What the bytes of an answer were encoded with; empty where they are as they are."""
    value = printable(headers.get("Content-Encoding", ""), 40)
    return "" if value.lower() == "identity" else value
