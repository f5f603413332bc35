# SPDX-License-Identifier: Apache-2.0
"""The schema on every database: from nothing, and from each release that there was."""

import datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import autogenerate, migration, script

from glance_repl_mw.cmd import manage as manage_command
from glance_repl_mw.db import migrations, models, schema
from glance_repl_mw.db.store import ReplicaStore
from glance_repl_mw.db.wishes import TargetWishes

SCRIPTS = script.ScriptDirectory(str(Path(migrations.__file__).parent))
REVISIONS = [each.revision for each in reversed(list(SCRIPTS.walk_revisions()))]
MOMENT = datetime.datetime(2026, 5, 4, 3, 2, 1, 654321)
WORDS = {"status": "pending", "wish": "drain", "image_id": "image", "target": "site-a"}


@pytest.fixture(params=["sqlite", "mariadb", "postgresql"])
def connection(request, tmp_path):
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/replication.sqlite"
    return request.getfixturevalue(request.param).new_database()


@pytest.fixture
def database(connection):
    database = schema.open_database(connection)
    yield database
    database.writer.get_engine().dispose()


def differences(database):
    """What the migrations made otherwise than the models say."""
    with database.writer.get_engine().connect() as connection:
        context = migration.MigrationContext.configure(connection, opts={"compare_type": True})
        return autogenerate.compare_metadata(context, models.Base.metadata)


def value_for(column):
    """What a row of an earlier release may have had in this column."""
    if column["name"] in WORDS:
        return WORDS[column["name"]]
    kinds = {sa.DateTime: MOMENT, sa.Boolean: False, sa.Integer: 7, sa.String: "x" * 8}
    return next(value for kind, value in kinds.items() if isinstance(column["type"], kind))


def fill(database):
    """Put a row into each table that there is now; returns what it holds by table."""
    engine = database.writer.get_engine()
    written = {}
    with engine.begin() as connection:
        for name in set(sa.inspect(engine).get_table_names()) - {"alembic_version"}:
            table = sa.Table(name, sa.MetaData(), autoload_with=connection)
            columns = sa.inspect(connection).get_columns(name)
            row = {each["name"]: value_for(each) for each in columns if each["name"] != "id"}
            connection.execute(sa.insert(table).values(row))
            written[name] = row
    return written


def content(database, name):
    engine = database.writer.get_engine()
    table = sa.Table(name, sa.MetaData(), autoload_with=engine)
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(sa.select(table)).mappings()]


@pytest.mark.parametrize("revision", [None, *REVISIONS])
def test_upgrade_keeps_rows_and_ends_in_what_the_models_say(database, revision):
    written = {}
    if revision is not None:
        schema.upgrade(database, revision)
        written = fill(database)
        assert schema.is_current(database) == (revision == REVISIONS[-1])
    schema.upgrade(database)
    assert schema.is_current(database)
    assert differences(database) == []
    for name, row in written.items():
        (kept,) = content(database, name)
        assert {column: kept[column] for column in row} == row
    if written:
        assert [row.image_id for row in ReplicaStore(database).replicas()] == ["image"]
    assert set(TargetWishes(database).all()) == (
        {"site-a"} if "target_wishes" in written else set()
    )
    schema.upgrade(database)


def test_replica_of_a_missing_image_is_looked_at_afresh(database):
    """An active replica had a next attempt where Glance did not have its image."""
    schema.upgrade(database, "0005")
    row = fill(database)["replicas"]
    table = sa.table("replicas", sa.column("status"))
    with database.writer.get_engine().begin() as connection:
        connection.execute(sa.update(table).values(status="active"))
    schema.upgrade(database)
    (kept,) = content(database, "replicas")
    assert (kept["error"], kept["next_attempt_at"]) == (None, None)
    assert kept["object_name"] == row["object_name"]


def test_text_of_mariadb_tells_apart_what_differs(mariadb):
    """Its own default would be latin1 and find "A" equal to "a"."""
    database = schema.open_database(mariadb.new_database())
    schema.upgrade(database)
    with database.writer.get_engine().connect() as connection:
        collations = connection.execute(
            sa.text(
                "SELECT DISTINCT table_name, collation_name FROM information_schema.columns"
                " WHERE table_schema = database() AND collation_name IS NOT NULL"
                " AND table_name <> 'alembic_version'"
            )
        ).all()
    database.writer.get_engine().dispose()
    assert {tuple(row) for row in collations} == {
        (name, "utf8mb4_bin") for name in models.Base.metadata.tables
    }


def test_operator_makes_the_tables(connection, tmp_path, capsys):
    config = tmp_path / "glance-api.conf"
    config.write_text(f"[replication]\nconnection = {connection}\n")

    def manage(*arguments):
        status = manage_command.manage(["--config-file", str(config), *arguments])
        output, complaints = capsys.readouterr()
        return status, output + complaints

    assert manage("status") == (0, "Nothing has been replicated yet.\n")
    for _ in range(2):
        assert manage("db", "sync") == (0, "The database is up to date.\n")
    assert manage("status") == (0, "Nothing has been replicated yet.\n")
    database = schema.open_database(connection)
    assert schema.is_current(database)
    database.writer.get_engine().dispose()
