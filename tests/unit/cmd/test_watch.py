# SPDX-License-Identifier: Apache-2.0
"""``status --watch``: the block that is shown, how it is repeated and how it ends."""

import itertools
import sys
import types

import oslo_db.exception
import pytest

from glance_repl_mw.cmd import watch
from glance_repl_mw.model import ReplicaStatus

IMAGE = "1d0c2a7c-5a5e-4d7a-9d8e-0c5f8a4b2f11"
UPLOADING = (ReplicaStatus.UPLOADING,)
FAILED = (ReplicaStatus.ERROR,)
MIB = 1 << 20


@pytest.fixture
def pauses(monkeypatch):
    """What happens in the pauses, of two seconds each, one after the other; then comes Ctrl-C."""
    steps = []
    moments = itertools.count(100, 2)

    def pause(_):
        if not steps:
            raise KeyboardInterrupt
        steps.pop(0)()

    # Others wait, too, and by the true clock.
    clock = types.SimpleNamespace(sleep=pause, monotonic=lambda: next(moments))
    monkeypatch.setattr(watch, "time", clock)
    return steps


def test_blocks_show_what_goes_on(node, records, add, pauses):
    add(IMAGE, "site-a", UPLOADING, size=4 * MIB, bytes_sent=MIB)
    add("active", "site-c")
    add("failed", "site-c", FAILED, error="no answer for 60 s", attempts=3, next_attempt_at=None)
    (row,) = records.survey.of_images([IMAGE])[IMAGE]
    pauses.append(lambda: records.survey.change(row, bytes_sent=3 * MIB))
    status, out, err = node.run("status", "--watch")
    assert (status, err) == (0, "")
    first, second = (cells(block) for block in out.split("Lag: none")[1:])
    assert [IMAGE, "site-a", "1.0", "25%", ""] in first
    assert [IMAGE, "site-a", "3.0", "75%", "1.0"] in second
    assert ["failed", "site-c", "3", "none", "no answer for 60 s"] in second
    statuses = ["pending", "uploading", "stored", "active", "error", "deleting"]
    assert second[:3] == [
        ["Target", *statuses],
        ["site-a", "0", "1", "0", "0", "0", "0"],
        ["site-c", "0", "0", "0", "1", "1", "0"],
    ]
    assert watch._START_OF_SCREEN not in out


def cells(block):
    """The cells of all lines of tables."""
    lines = (line for line in block.splitlines() if line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_on_a_terminal_each_block_takes_the_place_of_the_last(node, records, pauses, monkeypatch):
    pauses.append(lambda: None)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    _, out, _ = node.run("status", "--watch", "0.5")
    assert out.count(watch._START_OF_SCREEN) == 2
    assert out.startswith(watch._START_OF_SCREEN)


def test_one_image(node, add, pauses):
    add(IMAGE, "site-a")
    add("other", "site-a")
    status, out, _ = node.run("status", IMAGE, "--watch")
    assert status == 0
    assert IMAGE in out
    assert "other" not in out


def test_a_database_that_fails_is_asked_again(capsys, pauses):
    answers = [oslo_db.exception.DBError("it is locked"), "all is well"]

    def block():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    pauses.append(lambda: None)
    assert watch.repeat(block, 1) == 0
    out = capsys.readouterr().out
    assert "The database cannot be read: it is locked" in out
    assert "all is well" in out


@pytest.mark.parametrize("pause", ["soon", "0", "-1", "nan", "inf", "1e9"])
def test_a_pause_that_is_none(node, records, pause, capsys):
    with pytest.raises(SystemExit):
        node.run("status", f"--watch={pause}")
    assert "must be a number of seconds" in capsys.readouterr().err


def test_there_is_no_json_to_watch(node, records):
    status, _, err = node.run("status", "--watch", "--format", "json")
    assert (status, "tables only" in err) == (2, True)


def test_without_a_database_there_is_nothing_to_watch(node):
    status, _, err = node.run("status", "--watch")
    assert (status, "no tables yet" in err) == (2, True)
