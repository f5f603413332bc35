# SPDX-License-Identifier: Apache-2.0
"""What the check says about the spool directory."""

import os

import pytest

from glance_repl_mw.checks import spooldir
from glance_repl_mw.checks.deployment import read
from tests.unit.checks.config import make_conf

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:5 / {path} rw,relatime - {kind} server:/images rw
"""


@pytest.fixture
def spool(tmp_path):
    path = tmp_path / "spool"
    path.mkdir(mode=0o700)
    return path


def findings(path, min_free_bytes=0):
    options = {"spool_dir": path, "spool_min_free_bytes": min_free_bytes}
    conf = make_conf(path.parent if path.parent.is_dir() else path.parents[1], replication=options)
    return [str(finding) for finding in spooldir.check(read(conf))]


def test_good_directory_is_kept_as_it_is(spool):
    (found,) = findings(spool)
    assert (
        found == f"ok: [replication] spool_dir {spool}: can be written, and is private and local"
    )
    assert list(spool.iterdir()) == []


def test_missing_directory_is_no_fault_and_is_not_made(tmp_path):
    (found,) = findings(tmp_path / "spool")
    assert found.startswith("ok: ")
    assert not (tmp_path / "spool").exists()


@pytest.mark.parametrize("name", ["file", "file/spool"])
def test_file_in_the_way_is_an_error(tmp_path, name):
    (tmp_path / "file").touch()
    (found,) = findings(tmp_path / name)
    assert found.startswith("error: ")


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o740, 0o777])
def test_directory_that_is_open_to_others_is_an_error(spool, mode):
    spool.chmod(mode)
    (found,) = findings(spool)
    assert found.endswith(f"has mode {mode:04o}; make its mode 0700")


def test_directory_of_another_user_is_a_warning(spool, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    (found,) = findings(spool)
    assert found.startswith("warning: ")
    assert "belongs to" in found
    assert "not as user 4242" in found


def test_full_disk_is_an_error(spool):
    (found,) = findings(spool, 1 << 60)
    assert found.startswith("error: ")
    assert "less than spool_min_free_bytes" in found


@pytest.mark.parametrize(
    ("kind", "level"), [("nfs4", "warning"), ("fuse.sshfs", "warning"), ("xfs", "ok")]
)
def test_network_file_system_is_a_warning(spool, tmp_path, monkeypatch, kind, level):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS.format(path=tmp_path.resolve(), kind=kind))
    monkeypatch.setattr(spooldir, "_MOUNTS", mounts)
    (found,) = findings(spool)
    assert found.startswith(f"{level}: ")
