# SPDX-License-Identifier: Apache-2.0
"""The database of these tests; tests/functional/databases runs them on servers too."""

import pytest

from glance_repl_mw.db import schema


@pytest.fixture
def database(tmp_path):
    database = schema.open_database(f"sqlite:///{tmp_path}/replication.sqlite")
    schema.upgrade(database)
    yield database
    database.writer.get_engine().dispose()
