# SPDX-License-Identifier: Apache-2.0
"""Targets that leave, or have left without being emptied, as the check reports them."""

import pytest

from glance_repl_mw.checks import leaving
from glance_repl_mw.checks.deployment import read
from glance_repl_mw.db import schema
from glance_repl_mw.db.survey import ReplicaSurvey
from glance_repl_mw.db.wishes import TargetWishes
from glance_repl_mw.model import Priority, Wish
from tests.unit.checks.config import make_conf


@pytest.fixture
def find(tmp_path):
    def find(targets):
        connection = f"sqlite:///{tmp_path}/replication.sqlite"
        sections = {"replication": {"connection": connection, "enabled_targets": targets}}
        return list(map(str, leaving.check(read(make_conf(tmp_path, **sections)))))

    return find


@pytest.fixture
def database(tmp_path):
    database = schema.open_database(f"sqlite:///{tmp_path}/replication.sqlite")
    schema.upgrade(database)
    yield database
    database.writer.get_engine().dispose()


def test_no_finding_before_there_is_a_database(find, tmp_path):
    assert find("a:http") == []
    (tmp_path / "replication.sqlite").write_text("no database " * 100)
    assert find("a:http") == []


def test_target_with_replicas_and_without_configuration_is_found(find, database):
    ReplicaSurvey(database).plan("one", ["a", "b", "c"], Priority.REPAIR, 1)
    TargetWishes(database).ask("c", Wish.REMOVE)
    (found,) = find("a:http")
    assert found == (
        "warning: b: is not configured, but has replicas: 1; put it back and drain it, or forget "
        "it with glance-repl-manage target remove b --force"
    )
    assert find("a:wrong,b,c:http")[-1].startswith("warning: c: is being removed")


def test_configured_target_that_gets_no_replicas_is_found(find, database):
    TargetWishes(database).ask("a", Wish.DRAIN)
    TargetWishes(database).ask("gone", Wish.DRAIN)
    (found,) = find("a:http")
    assert found.startswith("warning: a: is being drained, or was, and gets no replicas; ")
    assert "glance-repl-manage target restore a" in found
