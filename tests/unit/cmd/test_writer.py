# SPDX-License-Identifier: Apache-2.0
"""What the writer makes of its configuration before it begins."""

import logging

import pytest
from oslo_config import cfg

from glance_repl_mw import opts
from glance_repl_mw.cmd import writer


@pytest.fixture
def notifications(tmp_path):
    """Begin notifications with this glance-api.conf."""

    def begin(text):
        file = tmp_path / "glance-api.conf"
        file.write_text(text)
        conf = cfg.ConfigOpts()
        opts.register_opts(conf)
        conf([], default_config_files=[str(file)], default_config_dirs=[])
        return writer._notifications(conf)

    return begin


def test_events_are_off_by_default(notifications):
    wanted_by_glance = "[oslo_messaging_notifications]\ndriver = messagingv2\n"
    assert notifications(wanted_by_glance) is None


@pytest.mark.parametrize("url", ["nonsense://host", "rabbit://host:port"])
def test_transport_that_cannot_be_costs_only_the_events(notifications, url, caplog):
    wanted = f"[DEFAULT]\ntransport_url = {url}\n[replication]\nnotifications = true\n"
    with caplog.at_level(logging.ERROR):
        assert notifications(wanted) is None
    assert "No events are sent" in caplog.text


@pytest.mark.parametrize(
    "url",
    ["rabbit://user:hunter2/x@host:1/", "rabbit://user:hunter2#@host:1/", "//u:hunter2@host"],
)
def test_transport_url_shows_no_secret(notifications, url, caplog):
    wanted = f"[DEFAULT]\ntransport_url = {url}\n[replication]\nnotifications = true\n"
    assert notifications(wanted) is None
    assert "transport_url is not a URL" in caplog.text
    assert "hunter2" not in caplog.text


def test_driver_that_is_missing_is_told(notifications, caplog):
    notifications("[replication]\nnotifications = true\n")
    assert "driver is empty" in caplog.text


@pytest.mark.parametrize("argument", ["--help", "--nonsense"])
def test_program_calls_itself_by_its_name(argument, capsys):
    with pytest.raises(SystemExit):
        writer._parse([argument])
    captured = capsys.readouterr()
    assert (captured.out + captured.err).startswith("usage: glance-repl-writer")
