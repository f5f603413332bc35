# SPDX-License-Identifier: Apache-2.0
"""Whether a writer runs is seen by its lock, from other processes and without a trace."""

import fcntl
import os

import pytest

from glance_repl_mw import launcher
from glance_repl_mw.presence import WRITER_LOCK, LocalWriter, local_writer


@pytest.fixture
def lock(tmp_path):
    with launcher.open_lock(tmp_path, WRITER_LOCK) as file:
        yield file


def test_where_there_was_never_one(tmp_path):
    assert local_writer(tmp_path) == LocalWriter(False)
    assert local_writer(tmp_path / "missing") == LocalWriter(False)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "process"),
    [("", None), ("4711", 4711), ("4711 abcdef", 4711), ("nonsense", None), ("\n", None)],
)
def test_holder_of_the_lock(tmp_path, lock, text, process):
    os.pwrite(lock.fileno(), text.encode(), 0)
    assert local_writer(tmp_path) == LocalWriter(False)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert local_writer(tmp_path) == LocalWriter(True, process)


def test_look_leaves_the_lock_free(tmp_path, lock):
    local_writer(tmp_path)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
