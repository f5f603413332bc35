# SPDX-License-Identifier: Apache-2.0
"""Appending, settling, recovery, quota: one process writes, others look."""

import errno
import json
import os
import pathlib
import subprocess
import sys
import time

import pytest

from glance_repl_mw import exceptions
from glance_repl_mw.spool.appender import Appender
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.spool.upload import UploadState

IMAGE = "7f2f2b5e-0c7f-4f3b-9d4c-000000000001"


@pytest.fixture
def spool(tmp_path):
    spool = Spool(str(tmp_path / "deep" / "spool"))
    spool.prepare()
    return spool


def test_prepare_makes_a_private_directory(spool):
    assert spool.directory.stat().st_mode & 0o777 == 0o700
    assert list(spool.directory.iterdir()) == []


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o777])
def test_prepare_refuses_a_directory_that_others_may_enter(spool, mode):
    spool.directory.chmod(mode)
    with pytest.raises(exceptions.ConfigError, match=r"spool_dir.*0700"):
        spool.prepare()


def test_prepare_names_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(exceptions.ConfigError, match="spool_dir"):
        Spool(str(tmp_path / "file" / "spool")).prepare()


def test_upload_is_seen_while_it_grows_and_once_it_is_accepted(spool):
    appender = Appender(spool, IMAGE, 6)
    appender.append(b"abc")
    (upload,) = spool.uploads()
    assert (upload.image_id, upload.size, upload.state) == (IMAGE, 6, UploadState.RECEIVING)
    assert not spool.is_abandoned(upload)
    appender.append(b"def")
    appender.accept()
    (upload,) = spool.uploads()
    assert (upload.state, upload.received) == (UploadState.ACCEPTED, 6)
    assert spool.data_path(upload.upload_id).read_bytes() == b"abcdef"
    assert {path.stat().st_mode & 0o777 for path in spool.directory.iterdir()} == {0o600}


def test_refused_upload_keeps_no_data(spool):
    appender = Appender(spool, IMAGE, 6)
    appender.append(b"abc")
    appender.reject("why")
    (upload,) = spool.uploads()
    assert (upload.state, upload.error) == (UploadState.REJECTED, "why")
    assert spool.used_bytes() == 0
    spool.remove(upload.upload_id)
    assert list(spool.directory.iterdir()) == []


def test_process_that_was_killed_leaves_an_abandoned_upload(spool):
    program = f"""
import sys, time
from glance_repl_mw.spool.appender import Appender
from glance_repl_mw.spool.directory import Spool
appender = Appender(Spool({str(spool.directory)!r}), {IMAGE!r}, None)
appender.append(b"abc")
print("ready", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    with process:
        assert process.stdout.readline() == b"ready\n"
        (upload,) = spool.uploads()
        assert not spool.is_abandoned(upload)
        process.kill()
        process.wait()
    assert spool.is_abandoned(upload)
    settled = spool.settle(upload, UploadState.ACCEPTED)
    assert (settled.state, settled.received) == (UploadState.ACCEPTED, 3)
    assert spool.uploads() == [settled]
    assert not spool.is_abandoned(settled)


def test_announced_size_must_fit_the_quota(tmp_path):
    spool = Spool(str(tmp_path), max_bytes=100)
    with pytest.raises(exceptions.SpoolFull, match="spool_max_bytes"):
        Appender(spool, IMAGE, 101)
    assert list(tmp_path.iterdir()) == []
    Appender(spool, IMAGE, 100).accept()


def test_growth_past_the_quota_is_noticed(tmp_path):
    spool = Spool(str(tmp_path), max_bytes=40 * 1024**2)
    appender = Appender(spool, IMAGE, None)
    piece = bytes(1024**2)
    with pytest.raises(exceptions.SpoolFull, match="spool_max_bytes"):
        for _ in range(64):
            appender.append(piece)
    assert spool.used_bytes() <= 40 * 1024**2
    appender.reject()


def test_free_space_floor(tmp_path):
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    with pytest.raises(exceptions.SpoolFull, match="spool_min_free_bytes"):
        Appender(Spool(str(tmp_path), min_free_bytes=free * 2), IMAGE, None)
    assert list(tmp_path.iterdir()) == []


def test_image_without_a_tee_is_recorded(spool):
    spool.record_unspooled(IMAGE, "the disk was full")
    (upload,) = spool.uploads()
    assert (upload.image_id, upload.state) == (IMAGE, UploadState.ACCEPTED)
    assert upload.error == "the disk was full"


def test_half_made_files_go_after_a_while_and_nothing_else(spool):
    appender = Appender(spool, IMAGE, None)
    (upload,) = spool.uploads()
    leftovers = [spool.directory / name for name in ("a.tmp", "b.data", "c.json")]
    for path in leftovers:
        path.write_text("{")
    spool.remove_half_made()
    assert all(path.exists() for path in leftovers)
    for path in spool.directory.iterdir():
        os.utime(path, (time.time() - 120, time.time() - 120))
    spool.remove_half_made()
    assert not any(path.exists() for path in leftovers)
    assert spool.uploads() == [upload]
    appender.reject()


def make_old(spool):
    for path in spool.directory.iterdir():
        os.utime(path, (time.time() - 120, time.time() - 120))


@pytest.fixture
def unread(monkeypatch):
    """Sidecars that the system cannot read, and why."""
    unread, read = {}, pathlib.Path.read_bytes

    def read_bytes(path):
        if path.stem in unread:
            raise OSError(unread[path.stem], os.strerror(unread[path.stem]))
        return read(path)

    monkeypatch.setattr(pathlib.Path, "read_bytes", read_bytes)
    return unread


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
def test_sidecar_that_cannot_be_read_stays_and_is_read_again(spool, unread, caplog, number):
    appender = Appender(spool, IMAGE, 3)
    appender.append(b"abc")
    appender.accept()
    (path,) = spool.directory.glob("*.json")
    unread[path.stem] = number
    make_old(spool)
    for _ in range(2):
        assert spool.uploads() == []
        spool.remove_half_made()
    with pytest.raises(exceptions.SidecarUnreadable, match=os.strerror(number)):
        spool.get(path.stem)
    assert len([line for line in caplog.messages if path.name in line]) == 1
    unread.clear()
    (upload,) = spool.uploads()
    assert upload == spool.get(path.stem)
    assert spool.data_path(path.stem).read_bytes() == b"abc"


@pytest.mark.parametrize(
    "change",
    [{"compression": "zstd"}, {"state": "resting"}, {"origin": "tape"}],
    ids=["field", "state", "origin"],
)
def test_sidecar_of_a_later_release_stays_and_is_told_of_once(spool, caplog, change):
    appender = Appender(spool, IMAGE, 3)
    appender.append(b"abc")
    appender.accept()
    (path,) = spool.directory.glob("*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    make_old(spool)
    for _ in range(2):
        assert spool.uploads() == []
        spool.remove_half_made()
    assert sorted(each.suffix for each in spool.directory.iterdir()) == [".data", ".json"]
    assert len([line for line in caplog.messages if path.name in line]) == 1


@pytest.mark.parametrize("text", [b"", b'{"upload_id": "', bytes(200)])
def test_sidecar_that_is_cut_off_goes(spool, text):
    (spool.directory / "c.json").write_bytes(text)
    make_old(spool)
    assert spool.uploads() == []
    assert spool.get("c") is None
    spool.remove_half_made()
    assert list(spool.directory.iterdir()) == []


def test_stamp_changes_with_every_settling(spool):
    stamps = [spool.stamp()]
    appender = Appender(spool, IMAGE, None)
    stamps.append(spool.stamp())
    time.sleep(0.02)  # file systems stamp no finer than a few milliseconds
    appender.accept()
    stamps.append(spool.stamp())
    assert len(set(stamps)) == 3
