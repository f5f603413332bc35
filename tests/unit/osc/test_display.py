# SPDX-License-Identifier: Apache-2.0
"""What a waiting command shows on a terminal."""

import io

from glance_repl_mw.osc import display
from tests.unit.osc.conftest import replica


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_terminal_gets_a_bar_for_each_target(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    with display.progress(terminal) as show:
        show(replica("site-a", "uploading", bytes_sent=40, progress=0.4))
        show(replica("site-[b]", "pending", size=None))
        show(replica("site-a"))
    text = terminal.getvalue()
    assert "site-[b]" in text and "40/100 bytes" in text
    assert text.rindex("100/100 bytes") > text.rindex("40/100 bytes")
    assert display.step_seconds(terminal) < display.step_seconds(io.StringIO())


def test_output_that_is_no_terminal_gets_a_line_for_each_change():
    stream = io.StringIO()
    with display.progress(stream) as show:
        for sent in (1, 2, 3):
            show(replica("site-a", "uploading", bytes_sent=sent))
        show(replica("site-a"))
    assert stream.getvalue() == "site-a: uploading\nsite-a: active\n"
