# SPDX-License-Identifier: Apache-2.0
"""Every test runs once on each server."""

import pytest
import sqlalchemy as sa

from glance_repl_mw.db import models, schema


@pytest.fixture(scope="package", params=["mariadb", "postgresql"])
def server(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="package")
def migrated(server):
    """A database with the tables of this release."""
    database = schema.open_database(server.new_database())
    schema.upgrade(database)
    yield database
    database.writer.get_engine().dispose()


@pytest.fixture
def database(migrated, server):
    """The same one, without rows."""
    if not server.running:
        server.start()
    with migrated.writer.get_engine().begin() as connection:
        for table in models.Base.metadata.sorted_tables:
            connection.execute(sa.delete(table))
    return migrated
