# SPDX-License-Identifier: Apache-2.0
"""Tells an operator that no writer does what a command has planned."""

from __future__ import annotations

import sys
import time

from oslo_config import cfg

from glance_repl_mw.checks import writers

# A writer that is replaced, or that glance-api is just starting, is there again by then.
GRACE_SECONDS = 15.0
_LOOK_SECONDS = 3.0


def warn(conf: cfg.ConfigOpts, *, is_spooled: bool = False) -> None:
    """One line on stderr where no writer runs, on this node or on others.

    :param is_spooled: it is about what lies in the spool of this node, too
    """
    found = writers.look(conf)
    if lack := found.lack or (found.spool_lack if is_spooled else ""):
        print(f"Warning: {lack}.", file=sys.stderr, flush=True)


class Patience:
    """How long a command goes on to wait for a writer; looks for one every few seconds."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf
        self._looked_at = 0.0
        self._since: float | None = None

    def lack(self) -> str:
        """Why the command waits for nothing, once that has been so for a while; else empty."""
        now = time.monotonic()
        if self._looked_at and now - self._looked_at < _LOOK_SECONDS:
            return ""
        self._looked_at = now
        lack = writers.look(self._conf).lack
        if not lack:
            self._since = None
            return ""
        self._since = now if self._since is None else self._since
        return lack if now - self._since >= GRACE_SECONDS else ""
