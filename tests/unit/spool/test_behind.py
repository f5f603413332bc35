# SPDX-License-Identifier: Apache-2.0
import errno
import os
import random
import threading

import pytest

from glance_repl_mw.spool import behind
from glance_repl_mw.spool.appender import Appender
from glance_repl_mw.spool.behind import WriteBehind
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.spool.upload import UploadState
from tests.lab.process import wait_until

IMAGE = "6f1f5a5e-1c0d-4d7e-9d0b-0c5f4d1f0a11"
PIECE = bytes(64 * 1024)
PIECES_OF_A_BATCH = behind._BATCH_BYTES // len(PIECE)


@pytest.fixture
def spool(tmp_path):
    spool = Spool(str(tmp_path / "spool"))
    spool.prepare()
    return spool


@pytest.fixture
def fast(monkeypatch):
    """However slow the machine is, what is brought comes fast."""
    monkeypatch.setattr(behind, "_LONGEST_WAIT_SECONDS", float("inf"))


class SlowDisk(Appender):
    """Writes nothing before it is told to."""

    def __init__(self, *args):
        super().__init__(*args)
        self.go = threading.Event()
        self.began = threading.Event()

    def append(self, *pieces):
        self.began.set()
        assert self.go.wait(60)
        super().append(*pieces)


def test_pieces_of_any_size_are_written_in_their_order(spool):
    chance = random.Random(7)
    pieces = [chance.randbytes(chance.choice([0, 1, 70, 4096, 300_000])) for _ in range(300)]
    pieces += [b"x"] * (2 * behind.MOST_PIECES)
    writer = WriteBehind(Appender(spool, IMAGE, None))
    for piece in pieces:
        writer.append(piece)
    writer.accept()
    assert spool.data_path(writer.upload_id).read_bytes() == b"".join(pieces)
    assert spool.get(writer.upload_id).received == sum(map(len, pieces))


def test_a_first_piece_is_written_although_no_more_come(spool):
    writer = WriteBehind(Appender(spool, IMAGE, None))
    writer.append(b"first")
    wait_until(lambda: spool.received_bytes(writer.upload_id) == 5, 60, "it is written")
    writer.discard()


@pytest.mark.parametrize("pieces", [[b"x"], [PIECE, b"", PIECE, b"x"]])
def test_what_was_announced_is_written_when_its_last_byte_has_come(spool, pieces):
    size = sum(map(len, pieces))
    writer = WriteBehind(Appender(spool, IMAGE, size))
    for piece in pieces:
        writer.append(piece)
    assert spool.received_bytes(writer.upload_id) == size
    writer.append(b"more")
    writer.accept()
    assert spool.get(writer.upload_id).received == size + 4


def test_no_thread_is_begun_for_what_comes_in_one_piece(spool, monkeypatch):
    monkeypatch.setattr(behind, "_pool", None)
    writer = WriteBehind(Appender(spool, IMAGE, len(PIECE)))
    writer.append(PIECE)
    writer.accept()
    assert spool.data_path(writer.upload_id).read_bytes() == PIECE


def test_who_brings_it_slowly_writes_it_himself(spool, monkeypatch):
    monkeypatch.setattr(behind, "_pool", None)
    monkeypatch.setattr(behind, "_LONGEST_WAIT_SECONDS", -1.0)
    writer = WriteBehind(Appender(spool, IMAGE, None))
    for number in range(1, 4):
        writer.append(PIECE)
        assert spool.received_bytes(writer.upload_id) == number * len(PIECE)
    writer.accept()


def test_a_slow_disk_holds_up_who_brings_more_than_two_batches(spool, fast):
    disk = SlowDisk(spool, IMAGE, None)
    writer = WriteBehind(disk)
    appended = []

    def bring():
        for number in range(64):
            writer.append(PIECE)
            appended.append(number)
        writer.accept()

    thread = threading.Thread(target=bring)
    thread.start()
    assert disk.began.wait(30)
    in_memory = 2 * PIECES_OF_A_BATCH
    wait_until(lambda: len(appended) == in_memory - 1, 60, "two batches are in memory")
    disk.go.set()
    thread.join(30)
    assert len(appended) == 64
    assert spool.data_path(writer.upload_id).read_bytes() == 64 * PIECE


@pytest.mark.parametrize("longest_wait", [-1.0, float("inf")])
def test_what_a_write_raises_is_raised_to_who_brings_more(spool, monkeypatch, longest_wait):
    monkeypatch.setattr(behind, "_LONGEST_WAIT_SECONDS", longest_wait)

    def full(appender, *pieces):
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = WriteBehind(Appender(spool, IMAGE, None))
    monkeypatch.setattr(Appender, "append", full)
    with pytest.raises(OSError, match="No space left"):
        for _ in range(64):
            writer.append(PIECE)
    writer.discard()


@pytest.mark.parametrize(("end", "states"), [("reject", [UploadState.REJECTED]), ("discard", [])])
def test_nothing_is_written_after_the_end(spool, end, states, fast):
    disk = SlowDisk(spool, IMAGE, None)
    writer = WriteBehind(disk)
    for _ in range(PIECES_OF_A_BATCH):
        writer.append(PIECE)
    threading.Timer(0.2, disk.go.set).start()
    getattr(writer, end)()
    assert [upload.state for upload in spool.uploads()] == states
    assert not spool.data_path(writer.upload_id).exists()


def test_a_process_that_a_server_forks_has_threads_of_its_own(spool):
    before = WriteBehind(Appender(spool, IMAGE, None))
    before.append(PIECE)
    before.accept()
    child = os.fork()
    if not child:
        try:
            writer = WriteBehind(Appender(spool, IMAGE, None, upload_id="of-the-child"))
            for _ in range(20):
                writer.append(PIECE)
            writer.accept()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert spool.data_path("of-the-child").read_bytes() == 20 * PIECE
