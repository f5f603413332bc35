# SPDX-License-Identifier: Apache-2.0
"""Where the bytes of a repair come from."""

import datetime
import re

import pytest
from oslo_utils import timeutils

from glance_repl_mw import exceptions
from glance_repl_mw.pace import Pace
from glance_repl_mw.reconciler.reading import Reading
from glance_repl_mw.reconciler.relay import _Reader
from glance_repl_mw.reconciler.sources import Sources, verify
from glance_repl_mw.reconciler.tools import Stopping
from glance_repl_mw.spool.appender import Appender
from glance_repl_mw.spool.upload import TAIL_BYTES
from tests.unit.reconciler.target_lab import BODY, PRIMARY, SITE, Lab


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path)
    lab.downloads = []

    def download(image_id):
        lab.downloads.append(image_id)
        yield from lab.from_glance

    lab.images.download = download
    lab.from_glance = [BODY[:500], BODY[500:]]
    opened = lab.target.open
    lab.target.open = lambda name, offset=0: skipped(opened(name), offset)
    yield lab
    lab.close()


def skipped(blocks, offset):
    body = b"".join(blocks)[offset:]
    return iter([body[:300], body[300:]])


def sources(lab, image_id):
    return Sources(lab.tools, lab.image(image_id), [lab.row(image_id)])


def read(lab, image_id):
    return b"".join(sources(lab, image_id).blocks())


def test_healthy_replica_comes_before_glance(lab):
    assert read(lab, lab.add()) == BODY
    assert lab.downloads == []


def test_target_that_is_down_is_not_asked(lab):
    image_id = lab.add()
    for _ in range(3):
        lab.health.failed(OSError("down"))
    assert read(lab, image_id) == BODY
    assert (lab.target.read, lab.downloads) == ([], [image_id])


def test_spool_comes_before_all(lab):
    image_id = lab.add()
    appender = Appender(lab.tools.spool, image_id, len(BODY))
    appender.append(BODY)
    appender.accept()
    assert read(lab, image_id) == BODY
    assert (lab.target.read, lab.downloads) == ([], [])


def test_next_source_goes_on_where_one_fails(lab):
    image_id = lab.add()

    def broken(name, offset=0):
        yield BODY[:700]
        raise exceptions.TargetUnavailable(target="site-a", hint="cut")

    lab.target.open = broken
    assert read(lab, image_id) == BODY
    assert lab.downloads == [image_id]


@pytest.mark.parametrize("age", [datetime.timedelta(0), datetime.timedelta(days=20)])
def test_corrupt_replica_is_found_out(lab, age):
    image_id = lab.add(made_at=timeutils.utcnow() - age)
    lab.target.objects[lab.name(image_id)] = BODY[:-1] + b"x"
    found = sources(lab, image_id)
    with pytest.raises(exceptions.SourceFailed, match="sha512"):
        list(found.blocks())
    verify(lab.tools, lab.image(image_id), found.suspects)
    assert lab.row(image_id).status == "error"
    assert not lab.image(image_id).locations[1:]


@pytest.mark.parametrize("obstacle", ["the target is down", "no answer", "less than"])
def test_suspect_of_which_nothing_can_be_told_is_looked_at_first(lab, caplog, obstacle):
    image_id = lab.add()
    replica = lab.row(image_id)
    lab.tools.survey.change(
        replica, verified_at=timeutils.utcnow(), read_back_at=timeutils.utcnow()
    )

    def open_(name, offset=0):
        if obstacle == "less than":
            raise exceptions.SourceSlow(hint="gives less than 100 bytes per second")
        raise exceptions.TargetUnavailable(target=SITE, hint="no answer")
        yield

    lab.target.open = open_
    if obstacle == "the target is down":
        for _ in range(3):
            lab.health.failed(OSError("down"))
    verify(lab.tools, lab.image(image_id), [replica])
    row = lab.row(image_id)
    assert (row.status, row.verified_at, row.read_back_at) == ("active", None, None)
    assert re.search(f"not known whether the replica is good: .*{obstacle}", caplog.text)


# Sources that are wrong


def endless(block):
    """A source that sends for ever."""

    def blocks(name, offset=0):
        yield BODY[offset : offset + block]
        while True:
            yield bytes(block)

    return blocks


def failed(lab, image_id):
    """The error of a read of which nothing can be kept, and the replicas that are suspected."""
    found = sources(lab, image_id)
    with pytest.raises(exceptions.SourceFailed) as caught:
        list(found.blocks())
    return caught.value, [each.target for each in found.suspects]


def test_source_that_gives_too_much_at_once_gives_nothing(lab):
    image_id = lab.add()
    lab.target.open = lambda name, offset=0: iter([BODY + b"x"])
    found = sources(lab, image_id)
    assert b"".join(found.blocks()) == BODY
    assert lab.downloads == [image_id]
    assert [each.target for each in found.suspects] == [SITE]


def test_source_without_end_is_left_and_the_next_read_has_another(lab):
    image_id = lab.add()
    lab.target.open = endless(500)
    error, suspects = failed(lab, image_id)
    assert error.others_are_left
    assert suspects == [SITE]
    assert lab.downloads == []
    assert read(lab, image_id) == BODY
    assert lab.downloads == [image_id]


def test_source_without_end_gives_no_more_than_the_image_has(lab):
    image_id = lab.add()
    lab.target.open = endless(100)
    got = []
    with pytest.raises(exceptions.SourceFailed):
        got += sources(lab, image_id).blocks()
    assert sum(map(len, got)) <= len(BODY)


def test_wrong_bytes_are_read_no_second_time_while_others_are_left(lab):
    image_id = lab.add()
    lab.target.objects[lab.name(image_id)] = BODY[:-1] + b"x"
    error, suspects = failed(lab, image_id)
    assert (error.others_are_left, suspects) == (True, [SITE])
    assert read(lab, image_id) == BODY
    assert lab.target.read == [lab.name(image_id)]


def test_glance_is_not_read_twice_before_a_replica_that_was_not_read(lab):
    """Nor is a read begun at once that has no other source."""
    image_id = lab.add()
    lab.target.objects[lab.name(image_id)] = BODY[:-1] + b"x"
    lab.from_glance = [b"y" * len(BODY)]
    assert failed(lab, image_id)[0].others_are_left
    assert not failed(lab, image_id)[0].others_are_left
    assert lab.downloads == [image_id]
    assert not failed(lab, image_id)[0].others_are_left
    assert (len(lab.target.read), len(lab.downloads)) == (2, 1)


def test_sources_are_not_mixed_once_bytes_were_wrong(lab):
    image_id = lab.add()

    def broken(name, offset=0):
        yield b"x" * 700
        raise exceptions.TargetUnavailable(target=SITE, hint="cut")

    lab.target.open = broken
    error, suspects = failed(lab, image_id)
    assert error.hint.startswith("the sha512")
    assert suspects == [SITE]
    assert "cut" in failed(lab, image_id)[0].hint
    assert lab.downloads == [image_id]
    assert read(lab, image_id) == BODY


@pytest.mark.parametrize(
    "problem",
    [
        exceptions.TargetRefused(target=SITE, hint="416 Requested Range Not Satisfiable"),
        exceptions.ReplicaMissing(target=SITE, hint="404"),
        exceptions.SourceSlow(operation="fetch", hint="too slow"),
        ValueError("a driver with a bug"),
        ConnectionResetError("reset"),
    ],
    ids=lambda problem: type(problem).__name__,
)
def test_next_source_is_asked_whatever_is_wrong_with_one(lab, problem):
    image_id = lab.add()

    def failing(name, offset=0):
        raise problem

    lab.target.open = failing
    assert read(lab, image_id) == BODY
    lab.target.open = lambda name, offset=0: iter([BODY])
    assert read(lab, image_id) == BODY
    assert lab.downloads == [image_id] * 2, "who failed lately is asked last"


def test_source_that_ends_early_is_suspected_and_the_next_one_goes_on(lab):
    image_id = lab.add()
    lab.target.objects[lab.name(image_id)] = BODY[:700]
    found = sources(lab, image_id)
    assert b"".join(found.blocks()) == BODY
    assert [each.target for each in found.suspects] == [SITE]


def test_end_is_not_awaited_once_the_bytes_are_proven(lab):
    image_id = lab.add()

    def hanging_at_the_end(name, offset=0):
        yield BODY
        pytest.fail("waits for the end")

    lab.target.open = hanging_at_the_end
    assert read(lab, image_id) == BODY


def test_image_without_a_hash_is_told_by_its_end(lab):
    image_id = lab.add(checksum=None, os_hash_algo=None, os_hash_value=None)
    lab.target.open = endless(len(BODY))
    assert failed(lab, image_id)[0].others_are_left
    assert read(lab, image_id) == BODY
    assert lab.downloads == [image_id]


@pytest.mark.parametrize("body", [[], [b""]])
def test_glance_that_answers_without_bytes(lab, body):
    image_id = lab.add_image()
    lab.from_glance = body
    with pytest.raises(exceptions.SourceFailed, match="0 bytes were read of 2100") as caught:
        list(Sources(lab.tools, lab.image(image_id), []).blocks())
    assert not caught.value.others_are_left


def test_no_source_is_asked_for_an_image_that_is_gone(lab):
    image_id = lab.add()
    lab.target.objects.clear()
    lab.images.download = lambda image_id: skipped(iter(()), lab.images.get("unknown"))
    with pytest.raises(exceptions.ImageGone):
        read(lab, image_id)


def test_slow_source_gives_way_to_the_next_one(lab):
    """And is asked last for other images, too."""
    clock = [0.0]
    reading = Reading(1000, lambda: clock[0])

    def slow(name, offset=0):
        for place in range(offset, len(BODY)):
            clock[0] += 2
            yield BODY[place : place + 1]

    lab.target.open = slow
    image_id = lab.add()
    found = Sources(lab.tools, lab.image(image_id), [lab.row(image_id)], reading)
    assert b"".join(found.blocks()) == BODY
    assert clock[0] == 120
    assert read(lab, lab.add()) == BODY
    assert clock[0] == 120
    assert not lab.tools.history.is_slow(lab.image(image_id))


def test_slow_glance_is_held_against_the_image(lab):
    clock = [0.0]

    def slow(image_id):
        for place in range(len(BODY)):
            clock[0] += 2
            yield BODY[place : place + 1]

    lab.images.download = slow
    image = lab.image(lab.add_image(owner="alice"))
    with pytest.raises(exceptions.SourceFailed, match="Glance gives less than 1000 bytes"):
        list(Sources(lab.tools, image, [], Reading(1000, lambda: clock[0])).blocks())
    assert lab.tools.history.is_slow(image)


def test_verification_of_a_slow_replica_ends(lab):
    clock = [0.0]
    image_id = lab.add()

    def slow(name, offset=0):
        for _ in range(1000):
            clock[0] += 2
            yield b"x"

    lab.target.open = slow
    image, row = lab.image(image_id), lab.row(image_id)
    verify(lab.tools, image, [row], Reading(1000, lambda: clock[0]))
    assert clock[0] < 200
    assert lab.row(image_id).status == "active"


def test_replica_without_end_is_found_out(lab):
    image_id = lab.add()
    lab.target.open = endless(500)
    verify(lab.tools, lab.image(image_id), [lab.row(image_id)])
    assert lab.row(image_id).status == "error"
    assert lab.image(image_id).locations == (PRIMARY,)


def test_target_that_went_down_is_neither_read_nor_verified(lab):
    image_id = lab.add()
    found = sources(lab, image_id)
    for _ in range(3):
        lab.health.failed(OSError("down"))
    assert b"".join(found.blocks()) == BODY
    verify(lab.tools, lab.image(image_id), [lab.row(image_id)])
    assert (lab.target.read, lab.target.asked) == ([], [])


def test_no_source(lab):
    image_id = lab.add()
    lab.target.objects.clear()
    lab.from_glance = [BODY[:10]]
    with pytest.raises(exceptions.SourceFailed, match="10 bytes were read"):
        read(lab, image_id)


def test_writer_that_ends_reads_no_further(lab):
    blocks = sources(lab, lab.add()).blocks()
    next(blocks)
    lab.tools.stopping.set()
    with pytest.raises(Stopping):
        next(blocks)


def relayed(lab, body, wrong=b""):
    image_id = lab.add_image(body)
    lab.from_glance = [body[place : place + 50_000] for place in range(0, len(body), 50_000)]
    lab.from_glance[-1] = lab.from_glance[-1][: -len(wrong) or None] + wrong
    return _Reader(Sources(lab.tools, lab.image(image_id), []), Pace(0))


@pytest.mark.parametrize("size", [1, TAIL_BYTES, 5 * TAIL_BYTES + 1])
def test_relay_gives_all_bytes(lab, size):
    body = bytes(range(256)) * (size // 256 + 1)
    reader = relayed(lab, body[:size])
    got = b""
    while data := reader.read(10_000):
        got += data
    assert got == body[:size]
    assert (reader.offset, reader.wait(), reader.fileno()) == (size, 0, None)


def test_relay_holds_the_tail_back_until_all_is_proven(lab):
    body = bytes(5 * TAIL_BYTES)
    reader = relayed(lab, body, wrong=b"x")
    with pytest.raises(exceptions.SourceFailed):
        while reader.read():
            pass
    assert reader.offset <= len(body) - TAIL_BYTES
