# SPDX-License-Identifier: Apache-2.0
"""Text from elsewhere, made fit for a log, a row or a terminal.

Servers, users and Glance send text that may hold control characters, escape sequences, line
breaks, marks that turn the direction of what follows, or megabytes.
"""

from __future__ import annotations

import html
import re

MOST_CHARACTERS = 200
_CUT = "..."
_MOST_OF_A_PAGE = 8192
# So much more than what may stay is looked at, since blanks and escape sequences go.
_LOOKED_AT = 8
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours and the cursor
    r"|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # titles and links
    r"|\x1b[ -/]*[0-~]"
)
_TITLE = re.compile(r"<(title|h1)\b[^>]*>(.*?)</\1\s*>", re.IGNORECASE | re.DOTALL)
_HIDDEN = re.compile(
    r"<(script|style|head)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)|<[^>]*(?:>|\Z)",
    re.IGNORECASE | re.DOTALL,
)


def printable(text: str, most: int = MOST_CHARACTERS) -> str:
    """One line of at most ``most`` characters that can be shown; raises nothing.

    Escape sequences go; every other character that cannot be printed becomes a blank, and blanks
    in a row become one. Marks of direction and lone surrogates cannot be printed either. What is
    cut ends with ``...``.
    """
    looked_at = text[: most * _LOOKED_AT]
    shown = "".join(c if c.isprintable() else " " for c in _ESCAPES.sub("", looked_at))
    line = " ".join(shown.split())
    if len(line) <= most and len(looked_at) == len(text):
        return line
    return line[: max(0, most - len(_CUT))].rstrip() + _CUT[:most]


def gist(page: str, most: int = MOST_CHARACTERS) -> str:
    """What a page of HTML is about, in one line: its title, else its text; raises nothing.

    Text that is no HTML is as ``printable`` makes it.
    """
    page = page[:_MOST_OF_A_PAGE]
    if "<" not in page:
        return printable(page, most)
    title = _TITLE.search(page)
    text = _HIDDEN.sub(" ", title[2] if title else page)
    return printable(_unescaped(text[: most * _LOOKED_AT]), most)


def _unescaped(text: str) -> str:
    try:
        return html.unescape(text)
    except ValueError:
        # The number of a character with thousands of digits.
        return text
