# SPDX-License-Identifier: Apache-2.0
"""Readers follow a file while it grows, and pass on no more than the gate allows."""

import threading

import pytest

from glance_repl_mw import exceptions
from glance_repl_mw.pace import Pace
from glance_repl_mw.spool.reader import Gate, SpoolReader
from glance_repl_mw.spool.upload import TAIL_BYTES


@pytest.fixture
def path(tmp_path):
    return tmp_path / "upload.data"


def read_all(reader):
    return b"".join(iter(lambda: reader.read(50_000), b""))


def test_tail_is_held_back_until_the_gate_opens(path):
    body = bytes(range(256)) * 1024
    path.write_bytes(body)
    gate = Gate()
    with SpoolReader(path, gate) as reader:
        assert reader.wait() == len(body) - TAIL_BYTES
        first = reader.read(len(body))
        assert first == body[:-TAIL_BYTES]
        opener = threading.Timer(0.01, gate.open, (len(body),))
        opener.start()
        assert first + read_all(reader) == body
        opener.join()
        assert reader.wait() == 0
        assert reader.offset == len(body)


def test_follows_growth(path):
    path.write_bytes(b"")
    gate = Gate()
    got = []

    def follow():
        with SpoolReader(path, gate) as reader:
            got.append(read_all(reader))

    thread = threading.Thread(target=follow)
    thread.start()
    with path.open("ab", buffering=0) as file:
        for number in range(20):
            file.write(bytes([number]) * 20_000)
    gate.open(400_000)
    thread.join(10)
    assert got == [b"".join(bytes([number]) * 20_000 for number in range(20))]


def test_skip_counts_as_read(path):
    path.write_bytes(b"abcdef")
    gate = Gate()
    gate.open(6)
    with SpoolReader(path, gate) as reader:
        reader.skip(4)
        assert (reader.offset, reader.wait(), reader.read()) == (4, 2, b"ef")


def test_cut_ends_a_waiting_reader_with_the_reason(path):
    path.write_bytes(b"abc")
    gate = Gate()
    threading.Timer(0.01, gate.cut, ("Glance refused the upload",)).start()
    with (
        SpoolReader(path, gate) as reader,
        pytest.raises(exceptions.UploadCut, match="Glance refused"),
    ):
        reader.wait()
    assert gate.is_cut


def test_file_that_has_shrunk_ends_the_reader(path):
    path.write_bytes(b"abc")
    gate = Gate()
    gate.open(10)
    with SpoolReader(path, gate) as reader, pytest.raises(exceptions.UploadCut, match="shrunk"):
        read_all(reader)


def test_a_shut_gate_holds_the_tail_back_of_what_was_announced_when_more_comes():
    gate = Gate(10 * TAIL_BYTES)
    assert gate.allowed(5 * TAIL_BYTES) == (4 * TAIL_BYTES, False)
    assert gate.allowed(20 * TAIL_BYTES) == (9 * TAIL_BYTES, False)
    gate.open(20 * TAIL_BYTES)
    assert gate.allowed(20 * TAIL_BYTES) == (20 * TAIL_BYTES, True)


class OpenHandedPace(Pace):
    """Grants ``most`` bytes at once, after ``seconds``; notes what is taken and given back."""

    def __init__(self, most, seconds=0.0):
        super().__init__(0)
        self.most = most
        self.seconds = seconds
        self.taken = []
        self.given_back = []

    def reserve(self, wanted):
        self.taken.append(min(wanted, self.most))
        return self.taken[-1], self.seconds

    def give_back(self, count):
        self.given_back.append(count)


def test_reader_tells_of_what_the_pace_grants_and_gives_the_rest_back(path):
    path.write_bytes(b"abcdefghij")
    gate = Gate()
    gate.open(10)
    pace = OpenHandedPace(4)
    with SpoolReader(path, gate, pace) as reader:
        assert (reader.wait(), reader.wait(), reader.read(3)) == (4, 4, b"abc")
        assert (reader.wait(), reader.read()) == (1, b"d")
        reader.skip(reader.wait())
        assert (reader.offset, reader.read(1)) == (8, b"i")
        assert pace.taken == [4, 4, 2]
    assert pace.given_back == [1]


def test_cut_ends_a_reader_that_waits_for_its_pace(path):
    path.write_bytes(b"abc")
    gate = Gate()
    gate.open(3)
    pace = OpenHandedPace(3, 20.0)
    threading.Timer(0.01, gate.cut, ("Glance refused the upload",)).start()
    with (
        SpoolReader(path, gate, pace) as reader,
        pytest.raises(exceptions.UploadCut, match="Glance refused"),
    ):
        reader.read()
    assert pace.given_back == [3]
