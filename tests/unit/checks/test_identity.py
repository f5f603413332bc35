# SPDX-License-Identifier: Apache-2.0
"""Whether the collections of the targets are their own, as the check reports it."""

import types

import pytest

from glance_repl_mw import deployment
from glance_repl_mw.checks import identity
from glance_repl_mw.checks.deployment import read
from glance_repl_mw.db import schema
from glance_repl_mw.db.deletions import DeletionRecords
from glance_repl_mw.reconciler.place import marked_fact
from tests.unit.checks.config import make_conf


@pytest.fixture
def records(tmp_path):
    database = schema.open_database(f"sqlite:///{tmp_path}/replication.sqlite")
    schema.upgrade(database)
    records = DeletionRecords(database)
    records.set_fact(deployment.FACT, "d1")
    yield records
    database.writer.get_engine().dispose()


@pytest.fixture
def find(tmp_path):
    """The findings where a target answers so to the question for its marker."""

    def find(marker, **options):
        options["connection"] = f"sqlite:///{tmp_path}/replication.sqlite"
        options["spool_dir"] = str(tmp_path)
        conf = make_conf(tmp_path, replication=options)
        target = types.SimpleNamespace(
            name="a",
            conf=None,
            renewal_seconds=0,
            options=(),
            places=["http://a/", "http://a/"],
            read=lambda name, most_bytes, seconds: marker,
        )
        return list(map(str, identity.check(read(conf), {"a": target})))

    return find


def test_collection_that_was_never_marked_is_marked_at_the_first_use(find, records):
    (found,) = find(None)
    assert found.startswith("note: a: has no glance-repl-marker yet")


def test_collection_that_has_lost_its_marker_is_an_error(find, records):
    records.set_fact(marked_fact("a"), "http://a/")
    (found,) = find(None)
    assert found.startswith("error: a: its collection has lost its glance-repl-marker")
    assert "glance-repl-manage target claim a" in found


def test_collection_of_its_own_is_fine(find, records):
    assert find(b'{"target": "a", "deployment": "d1"}') == [
        "ok: a: its collection is marked as its own"
    ]


def test_copy_with_an_id_of_its_own_is_told_before_it_starts(find, records):
    (found,) = find(b'{"target": "a", "deployment": "d1"}', deployment_id="d2")
    assert found.startswith("error: a: its collection is marked as that of target 'a' of deploy")
    assert records.fact(deployment.FACT) == "d1"
