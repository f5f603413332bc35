# SPDX-License-Identifier: Apache-2.0
"""Room in the spool for fetches, and demands for it."""

import pytest

from glance_repl_mw import exceptions
from glance_repl_mw.model import Image
from glance_repl_mw.reconciler import tools
from glance_repl_mw.reconciler.room import Room
from glance_repl_mw.reconciler.tools import Shortage
from glance_repl_mw.spool.appender import Appender
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.spool.upload import Origin


@pytest.fixture
def spool(tmp_path):
    spool = Spool(str(tmp_path / "spool"), max_bytes=1000)
    spool.prepare()
    return spool


@pytest.fixture
def room(spool):
    return Room(spool, 80)


def image(size, image_id="image"):
    return Image(image_id, "active", size, None, None, None, ())


def test_bytes_that_are_still_to_come_take_room(room, spool):
    assert room.is_there(800)
    assert not room.is_there(801)
    with room.kept_for(image(600)):
        assert (room.is_there(200), room.is_there(201)) == (True, False)
        appender = Appender(spool, "image", 600, Origin.GLANCE)
        appender.append(bytes(500))
        assert (room.is_there(200), room.is_there(201)) == (True, False)
        appender.append(bytes(100))
        appender.accept()
    assert (room.is_there(200), room.is_there(201)) == (True, False)


def test_two_that_do_not_fit_together_do_not_begin_together(room):
    with (
        room.kept_for(image(600)),
        pytest.raises(exceptions.SpoolFull),
        room.kept_for(image(600, "another")),
    ):
        pass
    with room.kept_for(image(600, "another")):
        pass


def test_room_that_is_given_up_is_there_for_others(room):
    with room.kept_for(image(600)):
        assert not room.is_there(600)
        room.give_up("image")
        assert room.is_there(800)
    assert room.is_there(800)


def test_image_that_could_never_be_held(room, spool):
    spool.data_path("e" * 32).write_bytes(bytes(900))
    assert (room.could_hold(800), room.could_hold(801)) == (True, False)


def test_demand_stands_until_it_is_withdrawn():
    shortage = Shortage()
    assert shortage.lacking_bytes == 0
    shortage.demand("one", 10)
    shortage.demand("two", 5)
    assert shortage.lacking_bytes == 10
    assert list(shortage.standing()) == ["one", "two"]
    shortage.withdraw("one")
    shortage.withdraw("one")
    assert shortage.lacking_bytes == 5
    shortage.withdraw("two")
    assert shortage.lacking_bytes == 0


def test_demand_that_is_made_again_keeps_its_age(monkeypatch):
    shortage = Shortage()
    now = [100.0]
    monkeypatch.setattr(tools.time, "monotonic", lambda: now[0])
    shortage.demand("one", 10)
    now[0] += 30
    shortage.demand("one", 11)
    assert shortage.standing()["one"].standing_seconds == 30
    assert shortage.lacking_bytes == 11


def test_number_of_demands_is_bounded():
    shortage = Shortage()
    for number in range(1000):
        shortage.demand(str(number), 1)
    assert len(shortage.standing()) == tools._MOST_DEMANDS
