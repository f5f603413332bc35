# SPDX-License-Identifier: Apache-2.0
"""What an extra brings is needed only where an option asks for it, and is named where it lacks."""

import logging
import pkgutil
import subprocess
import sys

import pytest
from oslo_config import cfg

import glance_repl_mw
from glance_repl_mw import exceptions, extras, filter, opts
from glance_repl_mw.checks import nodes
from glance_repl_mw.checks.deployment import read
from glance_repl_mw.cmd import writer
from tests.unit.checks.config import make_conf

OPTIONAL = ("etcd3gw", "oslo_messaging", "psycopg2", "pymysql", "redis", "tenacity", "tooz")
# Those that are imported only where an option asks for them, and what runs by itself.
ASKED_FOR = ("coordination", "notifications", "osc", "db.migrations.env")
IMPORT_ALL = """
import importlib, sys
from oslo_db.sqlalchemy import enginefacade
for name in {optional!r}:
    sys.modules[name] = None
for name in {modules!r}:
    importlib.import_module(name)
"""


def modules():
    prefix = f"{glance_repl_mw.__name__}."
    asked_for = tuple(prefix + name for name in ASKED_FOR)
    found = [module.name for module in pkgutil.walk_packages(glance_repl_mw.__path__, prefix)]
    return [name for name in found if not name.startswith(asked_for)]


def test_package_is_imported_without_any_of_them():
    assert len(modules()) > 100
    script = IMPORT_ALL.format(optional=OPTIONAL, modules=modules())
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.fixture
def without(monkeypatch):
    """Take a library away, and the module that imports it."""

    def without(library, module):
        monkeypatch.setitem(sys.modules, library, None)
        monkeypatch.delitem(sys.modules, f"glance_repl_mw.{module}", raising=False)
        monkeypatch.delattr(glance_repl_mw, module, raising=False)

    return without


TOLD = (
    "[replication] coordination_url: tooz is not installed; "
    "install glance-repl-mw[redis] or glance-repl-mw[etcd]"
)


@pytest.mark.parametrize(
    "start",
    [
        lambda directory: filter._image_locks("redis://host", directory),
        lambda directory: writer._nodes("redis://host", "node"),
    ],
    ids=["filter", "writer"],
)
def test_coordinator_without_its_library_is_a_wrong_configuration(start, without, tmp_path):
    without("tooz", "coordination")
    with pytest.raises(exceptions.ConfigError) as caught:
        start(tmp_path)
    assert caught.value.hint == TOLD


def test_check_names_the_extra_of_the_coordinator(without, tmp_path):
    without("tooz", "coordination")
    conf = make_conf(tmp_path, replication={"coordination_url": "redis://host"})
    (finding,) = nodes.check(read(conf))
    assert str(finding).startswith(f"error: {TOLD}; ")


def test_events_without_their_library_cost_only_the_events(without, caplog):
    without("oslo_messaging", "notifications")
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], default_config_files=[], default_config_dirs=[])
    conf.set_override("notifications", True, group="replication")
    with caplog.at_level(logging.ERROR):
        assert writer._notifications(conf) is None
    assert "oslo_messaging is not installed; install glance-repl-mw[notifications]" in caplog.text


def test_other_errors_pass():
    with pytest.raises(ValueError, match="boom"), extras.required_by("connection", "mysql"):
        raise ValueError("boom")
