# SPDX-License-Identifier: Apache-2.0
"""What comes from elsewhere is one short line that can be shown."""

import pytest

from glance_repl_mw.foreign_text import gist, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Not Found", "Not Found"),
        ("", ""),
        (" \t\r\n ", ""),
        ("two\nlines\r\nand\ttabs", "two lines and tabs"),
        ("\x1b[31mred\x1b[0m and \x1b[2Jgone", "red and gone"),
        ("\x9b31mred", "red"),
        ("\x1b]0;title\x07text \x1b]8;;http://evil/\x1b\\link", "text link"),
        ("\x1bcreset", "reset"),
        ("\x00\x07\x08\x7f\x85bell", "bell"),
        ("a\u202etxt.exe\u202c \u2066b\u2069 \u200f", "a txt.exe b"),
        ("line\u2028separator\u2029", "line separator"),
        ("lone \udc80 surrogate", "lone surrogate"),
        ("Grüße aus 東京", "Grüße aus 東京"),
    ],
)
def test_printable(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize("most", [0, 1, 3, 10, 200])
@pytest.mark.parametrize("text", ["x" * 10_000_000, "x\n" * 500, " " * 5000 + "x"])
def test_printable_is_cut(text, most):
    shown = printable(text, most)
    assert len(shown) <= most
    assert shown == "..."[:most] or shown.endswith("...")


def test_what_fits_is_not_cut():
    assert printable("x" * 200) == "x" * 200
    assert printable("x" * 201) == "x" * 197 + "..."


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("plain\ntext", "plain text"),
        ("It&#x27;s plain", "It&#x27;s plain"),
        (
            "<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>\r\n"
            "<center><h1>413 Request Entity Too Large</h1></center>\r\n<hr>"
            "<center>nginx/1.22.1</center>\r\n</body>\r\n</html>",
            "413 Request Entity Too Large",
        ),
        ("<h1>It&#x27;s full</h1><p>Long story</p>", "It's full"),
        ("<!DOCTYPE html><p>No &lt;title&gt;", "No <title>"),
        ("<style>p {color: red;}</style><script>alert(1)</script>text", "text"),
        ("<title>&#27;&#7;&#8238;red</title>", "red"),
        (f"<title>&#{'9' * 5000};</title>", None),
        ("<title>" * 10_000, ""),
        ("<!--" * 20_000, ""),
        ("<b", ""),
    ],
)
def test_gist_of_a_page(page, text):
    found = gist(page)
    assert len(found) <= 200
    assert text is None or found == text
