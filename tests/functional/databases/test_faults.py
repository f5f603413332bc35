# SPDX-License-Identifier: Apache-2.0
"""What goes wrong between the stores and a server: nothing is lost, and nothing is done twice."""

import contextlib
import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from oslo_db import exception as db_exception
from oslo_utils import timeutils

from glance_repl_mw.db import schema
from glance_repl_mw.db.store import ReplicaStore
from glance_repl_mw.db.survey import ReplicaSurvey
from glance_repl_mw.db.wishes import TargetWishes
from glance_repl_mw.model import Priority, ReplicaStatus, Wish
from glance_repl_mw.spool.upload import Origin, Upload, UploadState
from tests.lab.process import wait_until

TARGETS = ["a", "b"]
UPLOAD_ID = "u" * 32
UPLOAD = Upload(UPLOAD_ID, "image", 10, UploadState.RECEIVING, 0.0)
WAITING = {
    # innodb_trx would show the same again to whoever asks more than ten times a second.
    "mysql": "SELECT cast(variable_value AS unsigned) FROM information_schema.global_status"
    " WHERE variable_name = 'Innodb_row_lock_current_waits'",
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'",
}
QUICK_LOCK_TIMEOUT = {
    "mysql": {"init_command": "SET innodb_lock_wait_timeout = 0"},
    "postgresql": {"options": "-c lock_timeout=50"},
}
GALERA = {
    "certification": (1213, "Deadlock found when trying to get lock; try restarting transaction"),
    "brute force": (1213, "Deadlock: wsrep aborted transaction"),
    "no quorum": (1047, "WSREP has not yet prepared node for application use"),
}


class Stores:
    """All stores on one database, and what its engine met.

    :ivar statements: all that were sent, those that failed too
    :ivar errors: the driver's errors that oslo.db has a name for, as text
    :ivar connects: how many connections were asked for
    """

    def __init__(self, database):
        self.database = database
        self.engine = database.writer.get_engine()
        self.store = ReplicaStore(database, "node")
        self.survey = ReplicaSurvey(database)
        self.wishes = TargetWishes(database)
        self.errors = []
        self.statements = []
        self.connects = 0
        sa.event.listen(self.engine, "do_connect", self._note_connect)
        sa.event.listen(self.engine, "handle_error", self._note_error)
        sa.event.listen(self.engine, "before_cursor_execute", self._note_statement)

    def _note_error(self, context):
        self.errors.append(str(context.original_exception))

    def _note_statement(self, _connection, _cursor, statement, *_others):
        self.statements.append(statement)

    def _note_connect(self, *_arguments):
        self.connects += 1

    def close(self):
        sa.event.remove(self.engine, "do_connect", self._note_connect)
        sa.event.remove(self.engine, "handle_error", self._note_error)
        sa.event.remove(self.engine, "before_cursor_execute", self._note_statement)

    def rows(self):
        return self.survey.of_images(["image"]).get("image", [])

    @contextlib.contextmanager
    def just_before(self, beginning, action):
        """Do something once, before the first statement that begins so reaches the server."""
        pending = [action]

        def listen(_connection, _cursor, statement, *_others):
            if pending and statement.startswith(beginning):
                pending.pop()()

        sa.event.listen(self.engine, "before_cursor_execute", listen)
        try:
            yield
        finally:
            sa.event.remove(self.engine, "before_cursor_execute", listen)
        assert not pending, f"no statement began with {beginning}"


@pytest.fixture
def stores(database):
    stores = Stores(database)
    yield stores
    stores.close()


@pytest.fixture
def opened(server, database):
    """Open the same database with further arguments of the driver."""
    with contextlib.ExitStack() as stack:

        def open_with(**arguments):
            url = database.writer.get_engine().url.update_query_dict(arguments)
            other = schema.open_database(url.render_as_string(hide_password=False))
            stack.callback(other.writer.get_engine().dispose)
            stores = Stores(other)
            stack.callback(stores.close)
            return stores

        yield open_with


@pytest.fixture
def unanswered_commit(stores, server, monkeypatch):
    """The next commit is done, but the connection breaks before the server has said so."""
    dialect = stores.engine.dialect
    commit = dialect.do_commit

    def do_commit(connection):
        monkeypatch.setattr(dialect, "do_commit", commit)
        commit(connection)
        server.end_connections()
        connection.cursor().execute("SELECT 1")

    return lambda: monkeypatch.setattr(dialect, "do_commit", do_commit)


# Connections


def test_connections_that_the_server_ended_are_replaced_before_they_are_used(stores, server):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: stores.store.begin(UPLOAD, TARGETS), range(8)))
    assert server.end_connections() > 0
    stores.statements.clear()
    assert len(stores.rows()) == len(TARGETS)
    assert len(stores.statements) == 1


def test_connection_that_breaks_before_the_commit(stores, server):
    with stores.just_before("INSERT", server.end_connections):
        stores.store.begin(UPLOAD, TARGETS)
    assert [row.target for row in stores.rows()] == TARGETS
    assert stores.errors


def test_server_that_restarts_between_calls(stores, server):
    stores.store.begin(UPLOAD, TARGETS)
    with ThreadPoolExecutor(2) as pool:
        server.stop()
        connects = stores.connects
        reading = pool.submit(stores.store.unfinished)
        writing = pool.submit(stores.store.update, UPLOAD_ID, TARGETS, bytes_sent=7)
        wait_until(lambda: stores.connects > connects + 2, 60, "both are tried in vain")
        server.start()
        assert len(reading.result()) == writing.result() == len(TARGETS)


@pytest.mark.parametrize("ends", ["stop", "kill"])
def test_server_that_restarts_during_calls(stores, server, ends):
    done = threading.Event()

    def write(thread):
        number = 0
        while not done.is_set() or number < 5:
            upload = Upload(f"{thread}-{number}", "image", 10, UploadState.RECEIVING, 0.0)
            stores.store.begin(upload, TARGETS)
            for status in (ReplicaStatus.UPLOADING, ReplicaStatus.STORED):
                assert stores.store.update(upload.upload_id, TARGETS, status) == len(TARGETS)
            number += 1
        return number

    with ThreadPoolExecutor(4) as pool:
        writing = [pool.submit(write, thread) for thread in range(4)]
        wait_until(stores.rows, 60, "something is written")
        getattr(server, ends)()
        server.start()
        done.set()
        numbers = [each.result() for each in writing]
    assert stores.errors
    rows = [(row.upload_id, row.target, str(row.status)) for row in stores.rows()]
    assert sorted(rows) == sorted(
        (f"{thread}-{each}", target, "stored")
        for thread, number in enumerate(numbers)
        for each in range(number)
        for target in TARGETS
    )


# A commit of which nobody knows whether it was done


def test_begin_of_which_the_end_is_unknown(stores, unanswered_commit):
    unanswered_commit()
    assert list(stores.store.begin(UPLOAD, TARGETS)) == TARGETS
    assert len(stores.rows()) == len(TARGETS)
    assert stores.errors


def test_plan_of_which_the_end_is_unknown(stores, unanswered_commit):
    unanswered_commit()
    stores.survey.plan("image", TARGETS, Priority.REPAIR, 1)
    assert [row.target for row in stores.rows()] == TARGETS
    assert stores.errors


def test_adoption_of_which_the_end_is_unknown(stores, unanswered_commit):
    unanswered_commit()
    stores.survey.adopt("image", "a", UPLOAD_ID, "object")
    assert len(stores.rows()) == 1
    assert stores.errors


def test_change_of_which_the_end_is_unknown(stores, unanswered_commit):
    stores.survey.plan("image", TARGETS, Priority.REPAIR, 1)
    rows = stores.rows()
    unanswered_commit()
    assert stores.survey.assign(rows, UPLOAD_ID) == TARGETS
    unanswered_commit()
    assert stores.survey.change(stores.rows()[0], ReplicaStatus.ERROR, error="why")
    assert [str(row.status) for row in stores.rows()] == ["error", "pending"]
    assert {row.upload_id for row in stores.rows()} == {UPLOAD_ID}
    assert len(stores.errors) >= 2


def test_purge_and_wish_of_which_the_end_is_unknown(stores, unanswered_commit):
    stores.store.begin(UPLOAD, TARGETS)
    stores.store.update(UPLOAD_ID, ["a"], ReplicaStatus.DELETED)
    unanswered_commit()
    stores.store.purge_closed(timeutils.utcnow())
    assert [row.target for row in stores.rows()] == ["b"]
    unanswered_commit()
    stores.wishes.ask("a", Wish.DRAIN)
    assert stores.wishes.all() == {"a": Wish.DRAIN}


# Transactions that meet


def test_row_that_another_has_just_made(stores, opened):
    other = opened()
    with stores.just_before("INSERT", lambda: other.store.begin(UPLOAD, ["a"])):
        assert set(stores.store.begin(UPLOAD, TARGETS)) == set(TARGETS)
    assert sorted(row.target for row in stores.rows()) == TARGETS


def test_downloads_of_two_nodes_that_meet(stores, opened):
    """Only the row of one of them is made, whoever has looked before the other was done."""
    ours, theirs = (
        dataclasses.replace(UPLOAD, upload_id=letter * 32, origin=Origin.DOWNLOAD)
        for letter in "ot"
    )
    other = ReplicaStore(opened().database, "another node")
    with stores.just_before("INSERT", lambda: other.begin(theirs, ["a"])):
        assert stores.store.begin(ours, ["a"]) == {}
    (row,) = stores.rows()
    assert (row.upload_id, row.node) == (theirs.upload_id, "another node")


def test_wish_that_another_has_just_changed(stores, opened):
    other = opened()
    for _ in range(2):
        with stores.just_before("UPDATE", lambda: other.wishes.ask("a", Wish.REMOVE)):
            stores.wishes.ask("a", Wish.DRAIN)
        assert stores.wishes.all() == {"a": Wish.DRAIN}


def test_wishes_at_the_same_time(stores):
    targets = [f"site-{number // 8}" for number in range(64)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda target: stores.wishes.ask(target, Wish.DRAIN), targets))
    assert stores.wishes.all() == dict.fromkeys(targets, Wish.DRAIN)


def hold(connection, row):
    connection.execute(
        sa.text("UPDATE replicas SET attempts = attempts + 1 WHERE id = :id"), {"id": row.id}
    )


def wait_for_the_lock(server, backend):
    wait_until(lambda: server.execute(WAITING[backend])[0][0], 60, "a transaction waits")


def test_deadlock(stores, server):
    stores.store.begin(UPLOAD, TARGETS)
    stores.survey.plan("other", [f"site-{number}" for number in range(9)], Priority.REPAIR, 1)
    first, second = stores.rows()
    with ThreadPoolExecutor(1) as pool, stores.engine.connect() as connection:
        backend = stores.engine.dialect.name
        # The one that looks first, or has changed less, has to give way.
        if backend == "postgresql":
            connection.execute(sa.text("SET LOCAL deadlock_timeout = '60s'"))
        for row in stores.survey.of_images(["other"])["other"]:
            hold(connection, row)
        hold(connection, second)
        progress = {(UPLOAD_ID, "a"): 5, (UPLOAD_ID, "b"): 6}
        writing = pool.submit(stores.store.record_progress, progress)
        wait_for_the_lock(server, backend)
        hold(connection, first)
        connection.commit()
        writing.result(30)
    assert [row.bytes_sent for row in stores.rows()] == [5, 6]
    assert any("deadlock" in error.lower() for error in stores.errors), stores.errors


def test_lock_that_is_held_too_long(stores, opened):
    stores.store.begin(UPLOAD, TARGETS)
    hasty = opened(**QUICK_LOCK_TIMEOUT[stores.engine.dialect.name])
    with ThreadPoolExecutor(1) as pool, stores.engine.connect() as connection:
        hold(connection, stores.rows()[0])
        writing = pool.submit(hasty.store.update, UPLOAD_ID, TARGETS, bytes_sent=7)
        wait_until(lambda: len(hasty.statements) > 1, 60, "it was tried in vain")
        connection.rollback()
        assert writing.result(30) == 2
    assert {row.bytes_sent for row in stores.rows()} == {7}


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
def test_transaction_that_cannot_be_put_in_order(stores, opened, server):
    stores.store.begin(UPLOAD, TARGETS)
    strict = opened(options="-c default_transaction_isolation=serializable")
    with ThreadPoolExecutor(1) as pool, stores.engine.connect() as connection:
        hold(connection, stores.rows()[0])
        writing = pool.submit(strict.store.update, UPLOAD_ID, TARGETS, bytes_sent=7)
        wait_for_the_lock(server, "postgresql")
        connection.commit()
        assert writing.result(30) == 2
    assert len(strict.statements) == 2


@pytest.mark.parametrize("server", ["mariadb"], indirect=True)
@pytest.mark.parametrize("problem", GALERA.values(), ids=GALERA)
def test_conflict_that_galera_finds_at_the_commit(stores, monkeypatch, problem):
    dialect = stores.engine.dialect
    commit = dialect.do_commit

    def do_commit(connection):
        monkeypatch.setattr(dialect, "do_commit", commit)
        connection.rollback()
        number, text = problem
        connection.cursor().execute(
            f"SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = {number}, MESSAGE_TEXT = '{text}'"
        )

    stores.store.begin(UPLOAD, TARGETS)
    monkeypatch.setattr(dialect, "do_commit", do_commit)
    assert stores.store.update(UPLOAD_ID, TARGETS, ReplicaStatus.UPLOADING) == 2
    assert {str(row.status) for row in stores.rows()} == {"uploading"}
    assert str(problem[0]) in stores.errors[0]


def test_server_that_stays_away_is_a_dberror(stores, server, monkeypatch):
    stores.store.begin(UPLOAD, TARGETS)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    server.stop()
    try:
        with pytest.raises(db_exception.DBError):
            stores.store.replicas()
    finally:
        monkeypatch.undo()
        server.start()
    assert len(stores.store.replicas()) == 2
