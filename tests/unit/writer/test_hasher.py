# SPDX-License-Identifier: Apache-2.0
"""Hashes files while they grow, each once, and lets go of every one of them."""

import hashlib
import os
import queue

import pytest

from glance_repl_mw.writer.hasher import Hasher
from tests.lab.process import wait_until

MIB = 1 << 20


@pytest.fixture(scope="module")
def hasher():
    return Hasher()


@pytest.fixture
def digests():
    """Where digests arrive."""
    return queue.Queue()


def expected(body):
    return hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 20 * MIB])
def test_file_that_is_complete(hasher, tmp_path, digests, size):
    body = os.urandom(size)
    path = tmp_path / "body"
    path.write_bytes(body)
    hasher.finish(hasher.follow(path, "sha256"), digests.put)
    assert digests.get(timeout=60) == expected(body)


def test_files_that_grow_side_by_side(hasher, tmp_path):
    bodies = [b"", b"", b""]
    paths = [tmp_path / str(number) for number in range(3)]
    for path in paths:
        path.touch()
    followed = [hasher.follow(path, "sha256") for path in paths]
    for _ in range(5):
        for number, path in enumerate(paths):
            piece = os.urandom(300_000)
            bodies[number] += piece
            with path.open("ab") as file:
                file.write(piece)
    for digest, body in zip(followed, bodies, strict=True):
        digests = queue.Queue()
        hasher.finish(digest, digests.put)
        assert digests.get(timeout=60) == expected(body)


def test_file_that_is_dropped_is_closed_and_announces_nothing(hasher, tmp_path, digests):
    path = tmp_path / "body"
    path.write_bytes(b"abc")
    dropped = hasher.follow(path, "sha256")
    hasher.drop(dropped)
    hasher.finish(dropped, digests.put)
    hasher.finish(hasher.follow(path, "sha256"), digests.put)
    assert digests.get(timeout=60) == expected(b"abc")
    assert digests.empty()
    wait_until(lambda: not is_open(path), 60, "the hasher lets go of the file")


def is_open(path):
    """Whether this process has the file open; asked of /proc, for nobody closes what is lost."""
    links = ("/proc/self/fd/" + name for name in os.listdir("/proc/self/fd"))
    return any(os.readlink(link) == str(path) for link in links if os.path.islink(link))


def test_file_that_cannot_be_read_has_no_digest(hasher, tmp_path, digests, monkeypatch):
    path = tmp_path / "body"
    path.write_bytes(b"abc")
    broken = hasher.follow(path, "sha256")

    def fail(buffer):
        raise OSError("the disk is gone")

    monkeypatch.setattr(broken, "advance", fail)
    hasher.finish(broken, digests.put)
    assert digests.get(timeout=60) is None


def test_missing_file_and_unknown_algorithm(hasher, tmp_path):
    with pytest.raises(FileNotFoundError):
        hasher.follow(tmp_path / "none", "sha256")
    (tmp_path / "body").touch()
    with pytest.raises(ValueError, match="rot13"):
        hasher.follow(tmp_path / "body", "rot13")
