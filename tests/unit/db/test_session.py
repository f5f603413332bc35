# SPDX-License-Identifier: Apache-2.0
"""A Ctrl-C in the middle of a transaction."""

import pytest
import sqlalchemy as sa

from glance_repl_mw.db.store import ReplicaStore


@pytest.fixture
def interrupted(database):
    """SQLAlchemy is interrupted between a statement and its result."""
    engine = database.reader.get_engine()

    def interrupt(_connection, _cursor, statement, *_):
        if statement.startswith("SELECT"):
            raise KeyboardInterrupt

    sa.event.listen(engine, "after_cursor_execute", interrupt)
    yield
    sa.event.remove(engine, "after_cursor_execute", interrupt)


def test_interruption_is_no_error_of_the_database(database, interrupted):
    with pytest.raises(KeyboardInterrupt):
        ReplicaStore(database).replicas("an image")
