# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin for Glance's functional tests: puts the filter into the pipelines they write.

The path of a configuration file with ``[replication]`` is in the environment; without it the
tests run as they are.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import socket
from typing import Any

from glance.tests import functional
from glance.tests import utils as test_utils
from oslo_config import cfg
from oslo_db import options

CONFIG_VARIABLE = "GLANCE_TESTS_REPLICATION_CONF"
_PIPELINE = re.compile(r"^(\s*pipeline = .*?\b(?:unauthenticated-)?context)\b", re.MULTILINE)


def pytest_configure() -> None:
    # Other tests of Glance import it, which are not run here.
    options.set_defaults(cfg.CONF)
    socket.getaddrinfo = _resolve_without_a_name_server(socket.getaddrinfo)
    test_utils.db_sync = _migrate_once(test_utils.db_sync)
    if config_file := os.environ.get(CONFIG_VARIABLE):
        _insert_filter(config_file)


def pytest_pycollect_makeitem(name: str) -> list[Any] | None:
    """Leave out a helper that has the base class of a test."""
    return [] if name == "ImageAPIHelper" else None


def _resolve_without_a_name_server(getaddrinfo: Any) -> Any:
    """Glance asks for "localhost." with its dot, which only a name server knows."""

    def resolve(host: Any, *arguments: Any, **more: Any) -> Any:
        return getaddrinfo("localhost" if host == "localhost." else host, *arguments, **more)

    return resolve


def _migrate_once(db_sync: Any) -> Any:
    """Most of the time of a test goes into making the same tables."""
    template = pathlib.Path(f"migrated-{os.getpid()}.sqlite").absolute()

    def copy(*arguments: Any, engine: Any, **more: Any) -> None:
        if template.exists():
            shutil.copy(template, engine.url.database)
            return
        db_sync(*arguments, engine=engine, **more)
        shutil.copy(engine.url.database, template)

    return copy


def _insert_filter(config_file: str) -> None:
    write = functional.SynchronousAPIBase.setup_simple_paste

    def write_with_filter(test: functional.SynchronousAPIBase) -> None:
        write(test)
        paste = pathlib.Path(test.paste_config)
        text, pipelines = _PIPELINE.subn(r"\1 replication", paste.read_text())
        assert pipelines, "no pipeline has a context"
        paste.write_text(
            f"{text}\n[filter:replication]\n"
            "paste.filter_factory = glance_repl_mw.filter:filter_factory\n"
            f"config_file = {config_file}\n"
        )

    functional.SynchronousAPIBase.setup_simple_paste = write_with_filter
