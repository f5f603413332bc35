# SPDX-License-Identifier: Apache-2.0
"""What makes the filter replace a writer that runs."""

import importlib.metadata

import pytest
from oslo_config import cfg

from glance_repl_mw import launcher
from glance_repl_mw.launcher import fingerprint


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "glance-api.conf"
    file.write_text("[DEFAULT]\n")
    return file


@pytest.fixture
def conf(file):
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[str(file)], default_config_dirs=[])
    return conf


def test_configuration_and_release_tell_writers_apart(conf, file, monkeypatch):
    first = fingerprint(conf)
    assert fingerprint(conf) == first
    file.write_text("[DEFAULT]\ndebug = true\n")
    second = fingerprint(conf)
    assert second != first
    monkeypatch.setattr(importlib.metadata, "version", lambda _name: "another")
    assert fingerprint(conf) != second


class Uwsgi:
    """The module that uWSGI offers to the process with this number; 0 is the master."""

    def __init__(self, number):
        self.number = number

    def worker_id(self):
        return self.number


@pytest.fixture
def started(conf, monkeypatch):
    """Let a launcher start early under this server; returns when it has started."""

    def started(server):
        found = []
        monkeypatch.setattr(launcher, "uwsgi", server)
        conf.register_opts([cfg.StrOpt("spool_dir", default="/none")], group="replication")
        watcher = launcher.WriterLauncher(conf)
        monkeypatch.setattr(watcher, "ensure_started", lambda: found.append(True))
        watcher.start_early()
        return found

    return started


def test_writer_starts_with_a_worker_that_loads_the_application_itself(started):
    assert started(Uwsgi(1)) == [True]


def test_writer_does_not_start_before_the_server_forks(started):
    server = Uwsgi(0)
    found, hooked = started(server), []
    assert found == []
    server.number = 2
    server.post_fork_hook()
    assert found == [True]
    # What another had asked for is done as well, and a process that does not serve starts none.
    server.number, server.post_fork_hook = 0, lambda: hooked.append(True)
    found = started(server)
    server.post_fork_hook()
    assert (found, hooked) == ([], [True])


def test_other_servers_start_it_with_the_first_request(started):
    assert started(None) == []
