# SPDX-License-Identifier: Apache-2.0
"""The id of the deployment: where it is kept, and how a copy gets another one."""

import types

import pytest

from glance_repl_mw import deployment
from glance_repl_mw.db import schema
from glance_repl_mw.db.deletions import DeletionRecords


@pytest.fixture
def records(tmp_path):
    database = schema.open_database(f"sqlite:///{tmp_path}/replication.sqlite")
    schema.upgrade(database)
    yield DeletionRecords(database)
    database.writer.get_engine().dispose()


@pytest.fixture
def ask(tmp_path, records):
    def ask(configured=""):
        options = types.SimpleNamespace(spool_dir=str(tmp_path), deployment_id=configured)
        return deployment.deployment_id(types.SimpleNamespace(replication=options), records)

    return ask


def test_it_is_made_once(ask, tmp_path):
    made = ask()
    assert ask() == made == deployment.told(tmp_path)


def test_each_of_spool_and_database_outlives_the_loss_of_the_other(ask, records, tmp_path):
    made = ask()
    records.forget_fact(deployment.FACT)
    assert ask() == made
    (tmp_path / deployment.FILE).unlink()
    assert ask() == made == deployment.told(tmp_path)


def test_copy_takes_the_configured_id_in_place_of_that_of_the_original(ask, records, tmp_path):
    original = ask()
    assert ask("of the copy") == "of the copy" != original
    assert records.fact(deployment.FACT) == "of the copy" == deployment.told(tmp_path)
    assert ask() == "of the copy"
