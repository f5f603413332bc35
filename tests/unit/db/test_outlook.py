# SPDX-License-Identifier: Apache-2.0
"""The outlook is always true, and is read only when something may have changed."""

import datetime
import os
import pathlib
import time

import oslo_db.exception
import pytest
import sqlalchemy as sa
from oslo_utils import timeutils

from glance_repl_mw.db import outlook
from glance_repl_mw.db.outlook import Outlook, Outlooks
from glance_repl_mw.db.survey import ReplicaSurvey
from glance_repl_mw.db.wishes import TargetWishes
from glance_repl_mw.model import WAITING_FOR_BYTES, Priority, ReplicaStatus, Wish


@pytest.fixture
def looks(database, monkeypatch):
    """The looks into the database so far."""
    looks = []
    real = Outlooks._look
    monkeypatch.setattr(Outlooks, "_look", lambda self: (looks.append(1), real(self)))
    return looks


@pytest.fixture
def outlooks(database):
    return Outlooks(database)


def settle(database):
    """Let the file be one that was written a while ago."""
    file = database.writer.get_engine().url.database
    os.utime(file, (time.time() - 9, time.time() - 9))


def test_empty_database_has_nothing_in_store(outlooks):
    now = outlooks.now()
    assert now == Outlook(wishes={}, attempts={}, has_withdrawn=False, has_active=False)


def test_wishes_and_plans_are_seen_at_once(database, outlooks):
    survey = ReplicaSurvey(database)
    assert not outlooks.now().wishes
    TargetWishes(database).ask("a", Wish.DRAIN)
    assert outlooks.now().wishes == {"a": Wish.DRAIN}
    survey.plan("one", ["a"], Priority.REPAIR, 1)
    ((first, last),) = outlooks.now().planned(WAITING_FOR_BYTES)
    assert first == last <= timeutils.utcnow()
    assert outlooks.now().planned([ReplicaStatus.STORED]) == []


def test_first_and_last_attempt_are_told(database, outlooks):
    survey = ReplicaSurvey(database)
    now = timeutils.utcnow()
    hour = datetime.timedelta(hours=1)
    survey.plan("one", ["a", "b", "c"], Priority.REPAIR, 1)
    for row, moment in zip(
        survey.of_images(["one"])["one"], (now + hour, now - hour, None), strict=True
    ):
        survey.change(row, next_attempt_at=moment)
    assert outlooks.now().attempts == {ReplicaStatus.PENDING: (now - hour, now + hour)}


def test_stored_replica_that_nobody_plans_for_may_be_withdrawn(database, outlooks):
    survey = ReplicaSurvey(database)
    survey.adopt("one", "a", "0" * 32, "name")
    (row,) = survey.of_images(["one"])["one"]
    row = survey.change(row, ReplicaStatus.STORED, next_attempt_at=timeutils.utcnow())
    assert not outlooks.now().has_withdrawn
    survey.change(row, next_attempt_at=None)
    assert outlooks.now().has_withdrawn


def test_active_replica_is_to_be_looked_after(database, outlooks):
    survey = ReplicaSurvey(database)
    survey.adopt("one", "a", "0" * 32, "name")
    assert outlooks.now().has_active
    (row,) = survey.of_images(["one"])["one"]
    survey.change(row, ReplicaStatus.DELETING)
    assert not outlooks.now().has_active


def test_file_that_nobody_writes_is_read_once(database, outlooks, looks):
    outlooks.now()
    settle(database)
    outlooks.now()
    looks.clear()
    for _ in range(9):
        outlooks.now()
    assert not looks
    TargetWishes(database).ask("a", Wish.DRAIN)
    assert outlooks.now().wishes
    assert len(looks) == 1


def test_stamp_that_lies_is_believed_for_a_while_only(database, outlooks, looks, monkeypatch):
    outlooks.now()
    settle(database)
    outlooks.now()
    looks.clear()
    outlooks.now()
    assert not looks
    monkeypatch.setattr(outlook, "_LONGEST_SECONDS", 0.0)
    outlooks.now()
    assert len(looks) == 1


def test_other_databases_are_read_now_and_then(outlooks, looks, monkeypatch):
    monkeypatch.setattr(outlook, "_stamp", lambda _file: None)
    for _ in range(9):
        outlooks.now()
    assert len(looks) == 1
    monkeypatch.setattr(outlook, "_LASTING_SECONDS", 0.0)
    outlooks.now()
    assert len(looks) == 2


def test_error_is_told_to_all_who_ask_and_ends(database, outlooks, looks, monkeypatch):
    file = pathlib.Path(database.writer.get_engine().url.database)
    aside = file.rename(file.with_suffix(".aside"))
    for _ in range(3):
        with pytest.raises(oslo_db.exception.DBNonExistentTable):
            outlooks.now()
    assert len(looks) == 1
    aside.rename(file)
    monkeypatch.setattr(outlook, "_LASTING_SECONDS", 0.0)
    assert outlooks.now().wishes == {}


def test_another_outlook_is_told_and_the_same_is_not(database, outlooks):
    told = []
    outlooks.on_change(lambda: told.append(outlooks._found.wishes))
    outlooks.now()
    TargetWishes(database).ask("a", Wish.DRAIN)
    outlooks.now()
    TargetWishes(database).ask("a", Wish.DRAIN)
    outlooks.now()
    assert told == [{}, {"a": Wish.DRAIN}]


def test_each_part_of_the_question_goes_by_an_index(database):
    engine = database.writer.get_engine()
    question = outlook._QUESTION.compile(engine, compile_kwargs={"literal_binds": True})
    with engine.connect() as connection:
        plan = connection.execute(sa.text(f"EXPLAIN QUERY PLAN {question}")).all()
    lines = [line[-1] for line in plan if "replicas" in line[-1]]
    assert len(lines) == 2 + 2 * len(outlook._PLANNED)
    assert all(line.startswith("SEARCH") and "(status=?" in line for line in lines), lines
    assert sum("status=? AND next" in line for line in lines) == len(lines) - 1, lines
