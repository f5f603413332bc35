# SPDX-License-Identifier: Apache-2.0
"""The main loop, turn by turn."""

import errno
import os
import pathlib
import threading
import time

import oslo_db.exception
import pytest
from oslo_utils import timeutils

from glance_repl_mw import exceptions
from glance_repl_mw.db import schema
from glance_repl_mw.db.outlook import Outlooks
from glance_repl_mw.db.survey import ReplicaSurvey
from glance_repl_mw.db.wishes import TargetWishes
from glance_repl_mw.model import ReplicaStatus, Wish
from glance_repl_mw.reconciler.health import TargetHealth
from glance_repl_mw.reconciler.tools import Tools
from glance_repl_mw.spool.appender import Appender
from glance_repl_mw.writer import service as service_module
from glance_repl_mw.writer.service import WriterService
from tests.unit.writer.conftest import IMAGE, WAIT_SECONDS

BODY = bytes(100_000)
STEPS_TO_ACTIVE = (ReplicaStatus.UPLOADING, ReplicaStatus.STORED, ReplicaStatus.ACTIVE)


@pytest.fixture
def tools(crew, conf, spool, images, targets, tmp_path):
    database = schema.open_database(f"sqlite:///{tmp_path}/replication.sqlite")
    yield Tools(
        conf,
        spool,
        ReplicaSurvey(database),
        TargetWishes(database),
        Outlooks(database),
        images,
        crew.guard,
        targets,
        {name: TargetHealth() for name in targets},
    )
    database.writer.get_engine().dispose()


@pytest.fixture
def needed():
    return [True]


@pytest.fixture
def service(crew, tools, needed, monkeypatch):
    monkeypatch.setattr(service_module, "_CHORES_SECONDS", 0.0)
    return WriterService(crew, tools, lambda: needed[0])


def until(service, condition):
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        service.run_once()


def spool_upload(spool, images, body=BODY):
    appender = Appender(spool, IMAGE, len(body))
    appender.append(body)
    appender.accept()
    images.accept(body)


def statuses(store):
    return {row.target: str(row.status) for row in store.replicas()}


def test_upload_in_the_spool_is_taken_in_hand(service, spool, images, store):
    spool_upload(spool, images)
    until(service, lambda: set(statuses(store).values()) == {"active"})
    until(service, lambda: not spool.uploads())


@pytest.mark.parametrize("failing", ["read_bytes", "scandir"])
def test_upload_that_cannot_be_read_for_a_moment_is_taken_in_hand(
    service, spool, images, store, monkeypatch, failing
):
    place = pathlib.Path if failing == "read_bytes" else os
    real, failures = getattr(place, failing), [errno.EMFILE] * 2

    def fail_at_first(path, *arguments):
        if failures and str(path).startswith(str(spool.directory)):
            number = failures.pop()
            raise OSError(number, os.strerror(number))
        return real(path, *arguments)

    monkeypatch.setattr(place, failing, fail_at_first)
    spool_upload(spool, images)
    until(service, lambda: set(statuses(store).values()) == {"active"})
    assert failures == []


def test_rows_of_an_upload_that_cannot_be_read_are_not_given_up(
    service, spool, images, store, targets, monkeypatch
):
    spool_upload(spool, images)
    (upload,) = spool.uploads()
    store.begin(upload, targets)
    real, unread = pathlib.Path.read_bytes, [True]

    def read_bytes(path):
        if unread and path.suffix == ".json":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path)

    monkeypatch.setattr(pathlib.Path, "read_bytes", read_bytes)
    spool._seen.clear()
    for _ in range(10):
        service.run_once()
    assert set(statuses(store).values()) == {"pending"}
    unread.clear()
    until(service, lambda: set(statuses(store).values()) == {"active"})


def test_upload_whose_record_is_lost_while_it_comes_is_left_to_the_reconciler(
    service, spool, store
):
    """A row in hand that nobody works on any more would wait for ever."""
    appender = Appender(spool, IMAGE, 2 * len(BODY))
    appender.append(BODY)
    until(service, lambda: set(statuses(store).values()) == {"uploading"})
    (upload,) = spool.uploads()
    spool.remove(upload.upload_id)
    until(service, lambda: set(statuses(store).values()) == {"error"})
    assert all("gone from the spool" in row.error for row in store.replicas())
    assert all(row.next_attempt_at is not None for row in store.replicas())
    appender._file.close()


@pytest.fixture
def pushing(service, spool, images, store, targets, monkeypatch):
    """The appender of an upload whose second half is to come, while pushes run; no chores."""
    monkeypatch.setattr(service_module, "_CHORES_SECONDS", 3600.0)
    appender = Appender(spool, IMAGE, 2 * len(BODY))
    appender.append(BODY)
    until(service, lambda: set(statuses(store).values()) == {"uploading"})
    monkeypatch.setattr(service_module, "_PROGRESS_SECONDS", 0.0)
    yield appender
    appender.accept()
    images.accept(2 * BODY)
    until(service, lambda: set(statuses(store).values()) == {"active"})


def sent(store):
    return {row.bytes_sent for row in store.replicas()}


def test_progress_does_not_wait_for_the_chores(service, store, pushing):
    until(service, lambda: min(sent(store)) > 0)
    before = min(sent(store))
    assert max(sent(store)) <= len(BODY)
    pushing.append(BODY)
    until(service, lambda: min(sent(store)) > before)


@pytest.mark.parametrize("others_fail", [True, False])
@pytest.mark.parametrize("made_before", [(), ("site-a",)], ids=["none", "one"])
def test_upload_stays_while_other_nodes_make_what_it_lacks(
    service, spool, images, store, tools, targets, made_before, others_fail
):
    """They took over while this node was away, and the spool may be the last source."""
    spool_upload(spool, images)
    (upload,) = spool.uploads()
    store.begin(upload, targets)
    for status in STEPS_TO_ACTIVE:
        store.update(upload.upload_id, made_before, status)
    taken_over = set(targets) - set(made_before)
    other = ReplicaSurvey(tools.survey._database, "other")
    waiting = ReplicaStatus.ERROR, {"node": None, "next_attempt_at": timeutils.utcnow()}

    def rows_taken_over():
        return [row for row in other.of_images([IMAGE])[IMAGE] if row.target in taken_over]

    def change_all(status, values):
        for row in rows_taken_over():
            assert other.change(row, status, **values)

    change_all(*waiting)
    other.assign(rows_taken_over(), "fetch")
    for _ in range(10):
        service.run_once()
    assert spool.uploads() == [upload]
    assert {row.upload_id for row in rows_taken_over()} == {"fetch"}
    if others_fail:
        change_all(*waiting)
        until(service, lambda: set(statuses(store).values()) == {"active"})
        assert all(targets[name].objects for name in taken_over)
    else:
        for status in STEPS_TO_ACTIVE:
            change_all(status, {})
    until(service, lambda: not spool.uploads())


def test_progress_is_recorded_again_when_the_database_is_back(
    service, store, pushing, monkeypatch
):
    def fail(_):
        asked.append(True)
        raise oslo_db.exception.DBError()

    asked = []
    until(service, lambda: min(sent(store)) > 0)
    before = max(sent(store))
    with monkeypatch.context() as patch:
        patch.setattr(store, "record_progress", fail)
        pushing.append(BODY)
        until(service, lambda: len(asked) > 1)
    until(service, lambda: min(sent(store)) > before)


def test_reconciler_goes_on_when_api_processes_come_back_in_time(
    service, spool, images, store, tools, needed
):
    needed[0] = False
    for _ in range(3):
        service.run_once()
    needed[0] = True
    spool_upload(spool, images)
    until(service, lambda: set(statuses(store).values()) == {"active"})
    assert not tools.stopping.is_set()


def test_upload_that_was_handed_back_is_taken_up_again_when_its_pushes_end_late(
    service, spool, images, store, targets, needed, monkeypatch
):
    """Its pushes hang at their targets when it is handed back, and the writer is needed again."""
    going_on = threading.Event()
    for target in targets.values():
        real = target.put

        def put(name, reader, size, real=real):
            going_on.wait(WAIT_SECONDS)
            return real(name, reader, size)

        monkeypatch.setattr(target, "put", put)
    appender = Appender(spool, IMAGE, len(BODY))
    appender.append(BODY)
    until(service, lambda: set(statuses(store).values()) == {"uploading"})
    images.error = exceptions.GlanceUnavailable(IMAGE, None, "get", "ends")
    appender.accept()
    images.accept(BODY)
    needed[0] = False
    (job,) = service._jobs.values()
    until(service, lambda: job.lacks_proof)
    service.run_once()
    images.error = None
    needed[0] = True
    for _ in range(3):
        service.run_once()
        time.sleep(0.06)
    going_on.set()
    until(service, lambda: set(statuses(store).values()) == {"active"})


@pytest.fixture
def waiting(service, spool, images, store, monkeypatch):
    """Whether uploads wait in the spool, of which there is one, to give way to others."""
    waiting = [True]
    monkeypatch.setattr(service_module.Intake, "look", _counted(service_module.Intake.look))
    monkeypatch.setattr(service._intake._courtesy, "admits", lambda _: not waiting[0])
    spool_upload(spool, images)
    until(service, lambda: service_module.Intake.look.calls >= 3)
    assert not store.replicas()
    return waiting


def _counted(function):
    def counting(*arguments, **options):
        counting.calls += 1
        return function(*arguments, **options)

    counting.calls = 0
    return counting


def test_upload_that_gave_way_is_taken_in_hand_later(service, store, waiting):
    waiting[0] = False
    until(service, lambda: set(statuses(store).values()) == {"active"})


def test_writer_rests_between_its_looks_at_what_gives_way(service, waiting):
    before = service_module.Intake.look.calls
    for _ in range(5):
        service.run_once()
    assert service_module.Intake.look.calls - before >= 3


def test_upload_that_gave_way_is_pushed_when_the_last_api_process_has_gone(
    service, spool, store, waiting, needed
):
    needed[0] = False
    service.run_forever()
    assert set(statuses(store).values()) == {"active"}
    assert not spool.uploads()


def test_upload_that_gave_way_stays_for_the_next_writer(service, spool, store, waiting):
    service.stop()
    service.run_forever()
    assert not store.replicas()
    assert spool.uploads()


def test_reconciler_stops_with_the_writer(service, tools):
    service.stop()
    service.run_forever()
    assert tools.stopping.is_set()


def test_target_with_a_wish_gets_no_new_upload(service, spool, images, store, tools):
    tools.wishes.ask("site-b", Wish.DRAIN)
    service.run_once()
    spool_upload(spool, images)
    until(service, lambda: not spool.uploads())
    assert statuses(store) == {"site-a": "active"}


def fail_for_long(conf, targets):
    conf.set_override("retry_initial_seconds", 60, group="replication")
    conf.set_override("retry_max_seconds", 60, group="replication")
    targets["site-b"].errors = [exceptions.TargetUnavailable("", "site-b", "put", "down")]


def test_upload_that_waits_leaves_a_crowded_spool(service, spool, images, store, targets, conf):
    fail_for_long(conf, targets)
    spool_upload(spool, images)
    until(service, lambda: statuses(store) == {"site-a": "active", "site-b": "error"})
    assert len(spool.uploads()) == 1
    spool.max_bytes = len(BODY)
    until(service, lambda: not spool.uploads())
    row = next(row for row in store.replicas() if row.target == "site-b")
    assert (row.status, row.next_attempt_at is None) == ("error", False)


def test_room_is_made_for_a_fetch(service, spool, images, store, targets, conf, tools):
    fail_for_long(conf, targets)
    spool.max_bytes = 2 * len(BODY)
    spool_upload(spool, images)
    until(service, lambda: statuses(store) == {"site-a": "active", "site-b": "error"})
    service.run_once()
    assert len(spool.uploads()) == 1
    tools.shortage.demand(IMAGE, len(BODY))
    until(service, lambda: not spool.uploads())


def test_deleted_image_ends_its_uploads(service, spool, images, store, targets, conf):
    fail_for_long(conf, targets)
    spool_upload(spool, images)
    until(service, lambda: statuses(store) == {"site-a": "active", "site-b": "error"})
    service.forget(IMAGE)
    # What is active is for the reconciler, which knows whether the image can be restored.
    until(service, lambda: statuses(store) == {"site-a": "active", "site-b": "deleting"})
    until(service, lambda: spool.uploads() == [])
    assert len(targets["site-a"].objects) == 1


def test_target_that_is_back_is_tried_at_once(service, spool, images, store, targets, conf, tools):
    fail_for_long(conf, targets)
    for _ in range(3):
        tools.health["site-b"].failed(OSError("down"))
    service.run_once()
    spool_upload(spool, images)
    until(service, lambda: statuses(store) == {"site-a": "active", "site-b": "error"})
    tools.health["site-b"].succeeded()
    until(service, lambda: set(statuses(store).values()) == {"active"})


def test_spool_is_tidied_again_and_again(service, spool, monkeypatch):
    """A sidecar that is half made when a process dies is too young to be removed at once."""
    monkeypatch.setattr(service_module, "_TIDY_SECONDS", 0.01)
    left = spool.directory / "half-made.tmp"
    left.touch()
    service.run_once()
    assert left.exists()
    long_ago = time.time() - 100
    os.utime(left, (long_ago, long_ago))
    until(service, lambda: not left.exists())
