# SPDX-License-Identifier: Apache-2.0
"""The backend of the health check: when a node is well, and what it says when it is not."""

import fcntl
import threading

import pytest
from oslo_config import cfg

from glance_repl_mw import exceptions, launcher, opts
from glance_repl_mw.healthcheck import ReplicationHealthcheck


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def spool(tmp_path):
    path = tmp_path / "spool"
    path.mkdir(mode=0o700)
    return path


def configuration(path, text=""):
    path.write_text(text)
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[str(path)], default_config_dirs=[])
    return conf


@pytest.fixture
def plugin(tmp_path, spool, clock):
    """The backend with these options of [replication], and these in its paste section."""

    def plugin(paste=(), **options):
        options = {"spool_dir": spool, "spool_min_free_bytes": 0, **options}
        lines = "".join(f"{name} = {value}\n" for name, value in options.items())
        conf = configuration(tmp_path / "glance-api.conf", f"[replication]\n{lines}")
        return ReplicationHealthcheck(conf, dict(paste), clock)

    return plugin


@pytest.fixture
def hold(spool):
    """Hold a lock as the writer or an API process does; returns what lets it go."""
    held = []

    def hold(name, kind=fcntl.LOCK_EX):
        file = launcher.open_lock(spool, name)
        held.append(file)
        fcntl.flock(file, kind)
        return file.close

    yield hold
    for file in held:
        file.close()


def ask(plugin):
    result = plugin.healthcheck(9292)
    return result.available, result.reason, result.details


def test_writer_that_runs(plugin, hold, spool):
    hold(launcher.WRITER_LOCK)
    assert ask(plugin()) == (True, "OK", "the writer runs")
    assert [path.name for path in spool.iterdir()] == [launcher.WRITER_LOCK]


def test_missing_writer_is_told_after_a_while_and_forgiven_when_it_is_back(plugin, hold, clock):
    hold(launcher.API_LOCK, fcntl.LOCK_SH)
    asked = plugin()
    assert ask(asked)[0]
    clock.now += 29
    assert ask(asked) == (True, "OK", "the writer has not run for 29 seconds")
    clock.now += 1
    available, reason, details = ask(asked)
    assert (available, reason) == (False, "REPLICATION WRITER DOES NOT RUN")
    assert "writer's lock in /" in details
    end = hold(launcher.WRITER_LOCK)
    assert ask(asked)[0]
    end()
    assert ask(asked)[0]


def test_embedded_writer_is_not_missed_before_the_first_request(plugin, hold, clock):
    asked = plugin()
    for _ in range(3):
        clock.now += 60
        assert ask(asked) == (True, "OK", "the first request to Glance starts the writer")
    hold(launcher.API_LOCK, fcntl.LOCK_SH)
    ask(asked)
    clock.now += 60
    assert not ask(asked)[0]


def test_external_writer_is_missed_whoever_else_runs(plugin, clock):
    asked = plugin(writer="external")
    ask(asked)
    clock.now += 60
    assert not ask(asked)[0]


def test_look_leaves_the_locks_free(plugin, hold):
    asked = plugin()
    hold(launcher.API_LOCK, fcntl.LOCK_SH)()
    ask(asked)
    hold(launcher.API_LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB)
    hold(launcher.WRITER_LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_paste_section_wins(plugin, clock):
    asked = plugin({"replication_writer_absence_seconds": "5"}, writer="external")
    ask(asked)
    clock.now += 5
    assert not ask(asked)[0]


@pytest.mark.parametrize("value", ["soon", "-1"])
def test_wrong_number_of_seconds_is_refused(plugin, value):
    with pytest.raises(ValueError, match="must be a number of seconds"):
        plugin({"replication_writer_absence_seconds": value})


def test_spool_that_is_missing(plugin, spool):
    spool.rmdir()
    assert ask(plugin()) == (
        False,
        "REPLICATION SPOOL CANNOT BE WRITTEN",
        f"{spool} cannot be written",
    )


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ({"spool_min_free_bytes": 1 << 60}, "spool_min_free_bytes"),
        ({"spool_max_bytes": 10}, "spool_max_bytes (10) is reached"),
    ],
)
def test_spool_that_is_full(plugin, hold, spool, limit, told):
    hold(launcher.WRITER_LOCK)
    (spool / "upload.data").write_bytes(bytes(11))
    available, reason, details = ask(plugin(**limit))
    assert (available, reason) == (False, "REPLICATION SPOOL IS FULL")
    assert told in details


def test_options_in_a_file_of_their_own(tmp_path, spool, hold, clock):
    hold(launcher.WRITER_LOCK)
    own = tmp_path / "replication.conf"
    own.write_text(f"[replication]\nspool_dir = {spool}\nspool_min_free_bytes = 0\n")
    conf = configuration(tmp_path / "glance-api.conf")
    paste = {"replication_config_file": str(own)}
    assert ask(ReplicationHealthcheck(conf, paste, clock))[0]
    own.unlink()
    with pytest.raises(exceptions.ConfigError):
        ReplicationHealthcheck(conf, paste, clock)


def test_many_threads_may_ask(plugin, hold):
    hold(launcher.WRITER_LOCK)
    asked, answers = plugin(), []
    threads = [threading.Thread(target=lambda: answers.append(ask(asked)[0])) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 16


def test_options_have_help_and_are_in_the_sample():
    groups = dict(opts.list_opts())
    assert all(option.help for option in groups["healthcheck"])
