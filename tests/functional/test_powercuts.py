# SPDX-License-Identifier: Apache-2.0
"""Power cuts in their short form, and the disk that they need."""

import os
import random
import sqlite3
from contextlib import closing

import pytest

from tests.lab.webservers import Nginx
from tests.powercut import campaign
from tests.powercut.mount import LosingDisk


def test_nothing_is_lost_and_nothing_left_over(keystone, workdir, require, capsys):
    require(Nginx)
    require(LosingDisk)
    plan = campaign.Plan(seed=1, cuts=12, cuts_per_check=6)
    with capsys.disabled(), campaign.started(workdir("powercuts"), keystone, plan) as cuts:
        print(f"\n{cuts.run()}")


@pytest.fixture
def disk(workdir, require):
    require(LosingDisk)
    with LosingDisk(workdir("disk")) as mounted:
        yield mounted


def sync_directory(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def write(path, data, *, sync):
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        if sync:
            os.fsync(file.fileno())


def test_what_was_not_synced_is_lost(disk):
    write(disk.path / "nameless", b"synced", sync=True)
    sync_directory(disk.path)
    write(disk.path / "late", b"synced", sync=True)
    write(disk.path / "nameless", b"other", sync=False)
    disk.cut(None)
    assert os.listdir(disk.path) == ["nameless"]
    assert (disk.path / "nameless").read_bytes() == b"synced"


def test_name_may_be_kept_without_its_bytes_by_luck(disk):
    kept = set()
    for seed in range(40):
        write(disk.path / "new", b"bytes", sync=False)
        os.rename(disk.path / "new", disk.path / "name")
        disk.cut(seed)
        found = disk.path / "name"
        kept.add(found.read_bytes() if found.exists() else None)
        found.unlink(missing_ok=True)
        sync_directory(disk.path)
    assert {None, b"", b"bytes"} <= kept


def test_unlinked_file_is_there_for_those_who_have_it_open(disk):
    with open(disk.path / "open", "w+b", buffering=0) as file:
        file.write(b"first")
        os.unlink(disk.path / "open")
        file.write(b"second")
        assert os.fstat(file.fileno()).st_size == len(b"firstsecond")
        assert os.listdir(disk.path) == []


def test_power_goes_at_the_change_that_was_named(disk):
    child = os.fork()
    if not child:
        for number in range(1 << 20):
            (disk.path / str(number)).mkdir()
        os._exit(0)
    disk.arm([child], 25)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == 9
    with pytest.raises(OSError, match="Input/output error"):
        os.listdir(disk.path)
    disk.cut(random.getrandbits(32))
    assert len(os.listdir(disk.path)) <= disk.changes()


def test_sqlite_keeps_what_it_committed_with_synchronous_extra(disk):
    with closing(sqlite3.connect(disk.path / "sqlite")) as database:
        database.execute("PRAGMA synchronous = EXTRA")
        database.execute("CREATE TABLE numbers (number)")
        for number in range(5):
            database.execute("INSERT INTO numbers VALUES (?)", [number])
            database.commit()
    disk.cut(None)
    with closing(sqlite3.connect(disk.path / "sqlite")) as database:
        assert database.execute("SELECT count(*) FROM numbers").fetchone() == (5,)
