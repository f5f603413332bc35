"""What makes the filter replace a writer that runs."""

import importlib.metadata

import pytest
from oslo_config import cfg

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
