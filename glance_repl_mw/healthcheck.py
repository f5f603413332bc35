# SPDX-License-Identifier: Apache-2.0
"""The backend ``glance_replication`` of oslo.middleware's health check.

::

    [app:replication-health]
    paste.app_factory = oslo_middleware:Healthcheck.app_factory
    backends = glance_replication

It tells whether the writer of this node runs and whether the spool can take an upload. It answers
from the node alone: it asks no database, no target and not Glance.
"""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable
from typing import Any

from oslo_config import cfg
from oslo_middleware.healthcheck import pluginbase

from glance_repl_mw import exceptions, opts
from glance_repl_mw.checks.deployment import read_own
from glance_repl_mw.checks.places import can_hold
from glance_repl_mw.presence import is_watched, local_writer
from glance_repl_mw.spool.directory import Spool

# Every client of the page sees the reason; what may name paths is shown only with the details.
_WELL = "OK"
_NO_SPOOL = "REPLICATION SPOOL CANNOT BE WRITTEN"
_FULL_SPOOL = "REPLICATION SPOOL IS FULL"
_NO_WRITER = "REPLICATION WRITER DOES NOT RUN"


class ReplicationHealthcheck(pluginbase.HealthcheckBaseExtension):
    """Asked by any thread of an API process; waits for no more than the disk, and raises nothing.

    :param oslo_conf: Glance's configuration
    :param conf: the section of the paste file, whose values win
    :param clock: seconds that only grow
    :raises ConfigError: the file that ``replication_config_file`` names cannot be read
    """

    def __init__(
        self,
        oslo_conf: cfg.ConfigOpts,
        conf: dict[str, Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(oslo_conf, conf)
        oslo_conf.register_opts(opts.HEALTHCHECK_OPTIONS, group=opts.HEALTHCHECK_GROUP)
        path = self._conf_get("replication_config_file")
        replication = read_own(path) if path else oslo_conf
        opts.register_opts(replication)
        options = replication.replication
        self._is_embedded = options.writer == "embedded"
        self._spool = Spool(
            options.spool_dir, options.spool_max_bytes, options.spool_min_free_bytes
        )
        self._directory = pathlib.Path(options.spool_dir)
        self._longest_absence: float = self._conf_get("replication_writer_absence_seconds")
        self._clock = clock
        self._absent_since: float | None = None

    def healthcheck(self, server_port: int) -> pluginbase.HealthcheckResult:
        """How this node is; the port makes no difference."""
        return self._spool_problem() or self._writer()

    def _spool_problem(self) -> pluginbase.HealthcheckResult | None:
        if not can_hold(self._directory):
            return _unwell(_NO_SPOOL, f"{self._directory} cannot be written")
        try:
            self._spool.require_room(0)
        except exceptions.SpoolFull as error:
            return _unwell(_FULL_SPOOL, error.hint)
        except OSError as error:
            return _unwell(_NO_SPOOL, f"{self._directory}: {error.strerror}")
        return None

    def _writer(self) -> pluginbase.HealthcheckResult:
        if local_writer(self._directory).runs is not False:
            self._absent_since = None
            return _well("the writer runs")
        if self._is_embedded and not is_watched(self._directory):
            # A node that gets no request before it is well would never be.
            return _well("the first request to Glance starts the writer")
        now = self._clock()
        if self._absent_since is None:
            self._absent_since = now
        absence = now - self._absent_since
        if absence < self._longest_absence:
            return _well(f"the writer has not run for {absence:.0f} seconds")
        return _unwell(_NO_WRITER, f"no process holds the writer's lock in {self._directory}")


def _well(details: str) -> pluginbase.HealthcheckResult:
    return pluginbase.HealthcheckResult(available=True, reason=_WELL, details=details)


def _unwell(reason: str, details: str) -> pluginbase.HealthcheckResult:
    return pluginbase.HealthcheckResult(available=False, reason=reason, details=details)
