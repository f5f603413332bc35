# SPDX-License-Identifier: Apache-2.0
"""One request at a time changes an image's record, over threads and processes."""

import fcntl
import logging
import os
import subprocess
import sys
import threading
import uuid

import pytest

from glance_repl_mw import locking
from glance_repl_mw.locking import NodeImageLocks, name_of

IMAGE = "6f1f5a5e-1c0d-4d7e-9d0b-0c5f4d1f0a11"
OTHER = "6f1f5a5e-1c0d-4d7e-9d0b-0c5f4d1f0a12"


@pytest.fixture
def locks(tmp_path):
    return NodeImageLocks(tmp_path)


@pytest.fixture
def impatient(tmp_path):
    return NodeImageLocks(tmp_path, wait_seconds=0)


def warnings(caplog):
    ours = [record for record in caplog.records if record.name == "glance_repl_mw.locking"]
    return [record for record in ours if record.levelno >= logging.WARNING]


def test_threads_take_turns(locks):
    inside, most = [], []

    def change():
        for _ in range(50):
            with locks.hold(IMAGE):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=change) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(most), max(most)) == (200, 1)


def test_a_lock_is_held_against_other_processes(tmp_path, impatient, caplog):
    program = (
        "import pathlib, sys\n"
        "from glance_repl_mw.locking import NodeImageLocks\n"
        "with NodeImageLocks(pathlib.Path(sys.argv[1])).hold(sys.argv[2]):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path), IMAGE.upper()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        with impatient.hold(IMAGE):
            assert len(warnings(caplog)) == 1
        process.kill()
        process.wait()
    with impatient.hold(IMAGE):
        assert len(warnings(caplog)) == 1, "the lock of a dead process is free"


def test_images_do_not_wait_for_each_other(locks, impatient, caplog):
    with locks.hold(IMAGE), impatient.hold(OTHER):
        pass
    assert warnings(caplog) == []


def test_a_change_goes_on_after_a_while(locks, impatient, caplog):
    with locks.hold(IMAGE):
        for _ in range(2):
            with impatient.hold(IMAGE):
                pass
    assert [IMAGE in record.getMessage() for record in warnings(caplog)] == [True, True]


def test_a_change_goes_on_where_others_are_always_quicker(impatient, monkeypatch, caplog):
    """Each time its file is locked, it is one that another change has removed."""
    monkeypatch.setattr(locking, "_is_at", lambda *_: False)
    before = len(os.listdir("/proc/self/fd"))
    with impatient.hold(IMAGE) as is_held:
        assert not is_held
    assert [IMAGE in record.getMessage() for record in warnings(caplog)] == [True]
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_lock_is_given_back_after_an_error(locks, impatient, caplog):
    with pytest.raises(ZeroDivisionError), locks.hold(IMAGE):
        _ = 1 / 0
    with impatient.hold(IMAGE):
        pass
    assert warnings(caplog) == []


def test_no_descriptor_is_left(locks, impatient):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with locks.hold(IMAGE), impatient.hold(IMAGE):
            pass
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_files_are_private_and_go(tmp_path, locks):
    directory = tmp_path / "locks"
    for number in range(100):
        with locks.hold(f"image {number}"):
            assert directory.stat().st_mode & 0o777 == 0o700
            (path,) = directory.iterdir()
            assert path.stat().st_mode & 0o777 == 0o600
    assert list(directory.iterdir()) == []


def test_no_two_images_share_a_lock():
    """Of so many, some would share each number of a few thousand."""
    assert len({name_of(str(uuid.uuid4())) for _ in range(10_000)}) == 10_000
    assert name_of(IMAGE) == name_of(IMAGE.upper())


def test_what_killed_processes_leave_goes_with_the_next_start(tmp_path, locks):
    with locks.hold(IMAGE):
        (tmp_path / "locks" / "left").touch()
        NodeImageLocks(tmp_path)
        (path,) = (tmp_path / "locks").iterdir()
        assert path.name == name_of(IMAGE)


def test_a_lock_can_be_given_back_early(locks, impatient, caplog):
    locking.let_go()
    with locks.hold(IMAGE) as is_held:
        assert is_held
        locking.let_go()
        locking.let_go()
        with impatient.hold(IMAGE) as is_held:
            assert is_held
    assert warnings(caplog) == []


def test_without_a_directory_changes_go_on_and_one_warning_is_logged(tmp_path, caplog):
    spool = tmp_path / "spool"
    locks = NodeImageLocks(spool)
    for _ in range(3):
        with locks.hold(IMAGE):
            pass
    assert len(warnings(caplog)) == 1
    assert not spool.exists(), "a spool that was taken away is not made again"
    spool.mkdir()
    with locks.hold(IMAGE):
        pass
    spool.rename(tmp_path / "away")
    with locks.hold(IMAGE):
        pass
    assert len(warnings(caplog)) == 2


def test_a_file_system_without_locks(locks, monkeypatch, caplog):
    def refuse(*_):
        raise OSError("Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locks.hold(IMAGE):
        pass
    assert "not implemented" in warnings(caplog)[0].getMessage()
