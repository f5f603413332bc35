# SPDX-License-Identifier: Apache-2.0
"""What the check of the coordinator says, and does not say."""

import pytest

from glance_repl_mw import coordination
from glance_repl_mw.checks import nodes
from glance_repl_mw.checks.deployment import read
from tests.unit.checks.config import make_conf


@pytest.fixture
def lines(tmp_path):
    def lines(url):
        conf = make_conf(tmp_path, replication={"coordination_url": url})
        return [str(finding) for finding in nodes.check(read(conf))]

    return lines


def test_password_with_special_characters_is_explained_without_it(lines):
    (line,) = lines("etcd3+http://user:hunter2#@host")
    assert "write special characters of a password as %XX" in line
    assert "hunter2" not in line


def test_coordinator_that_cannot_be_reached(lines, monkeypatch):
    def look(url):
        raise ConnectionRefusedError(111, "user:hunter2@host refuses")

    monkeypatch.setattr(coordination, "look", look)
    (line,) = lines("redis://user:hunter2@host")
    assert "cannot be reached: ConnectionRefusedError (Connection refused); start it" in line
    assert "hunter2" not in line
