"""Where the bytes of a repair come from."""

import pytest

from glance_repl_mw import exceptions
from glance_repl_mw.pace import Pace
from glance_repl_mw.reconciler.relay import _Reader
from glance_repl_mw.reconciler.sources import Sources
from glance_repl_mw.reconciler.tools import Stopping
from glance_repl_mw.spool.appender import Appender
from glance_repl_mw.spool.upload import TAIL_BYTES
from tests.unit.reconciler.target_lab import BODY, Lab


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


def test_corrupt_replica_is_found_out(lab):
    image_id = lab.add()
    lab.target.objects[lab.name(image_id)] = BODY[:-1] + b"x"
    with pytest.raises(exceptions.SourceFailed, match="sha512"):
        read(lab, image_id)
    assert lab.row(image_id).status == "error"
    assert not lab.image(image_id).locations[1:]


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
    return _Reader(lab.tools, lab.image(image_id), [], Pace(0))


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
