# SPDX-License-Identifier: Apache-2.0
"""Does a writer run that does what is planned?"""

from __future__ import annotations

import dataclasses
import pathlib
import time
from collections.abc import Iterator, Sequence

from oslo_config import cfg
from oslo_utils import timeutils

from glance_repl_mw import exceptions
from glance_repl_mw.checks import database
from glance_repl_mw.checks.deployment import Deployment
from glance_repl_mw.checks.finding import Finding, error, note, ok, warning
from glance_repl_mw.db.states import TargetStates
from glance_repl_mw.nodes import NODE_FILE
from glance_repl_mw.presence import FRESH, LocalWriter, local_writer

_WHERE = "writer"
_REMEDIES = {
    "external": "start glance-repl-writer",
    "embedded": "start glance-api: it starts the writer, at its first request at the latest",
}
# The check itself has asked Glance by now, which may just be starting the writer.
_PATIENCE_SECONDS = 3.0
_LOOK_SECONDS = 0.1


@dataclasses.dataclass(frozen=True)
class Writers:
    """The writers that are known.

    :ivar elsewhere: nodes that share the database whose writers have said something of late
    :ivar remedy: what starts one here
    """

    here: LocalWriter
    elsewhere: Sequence[str]
    remedy: str

    @property
    def lack(self) -> str:
        """What there is to say where nobody does what is planned, with the remedy; else empty."""
        if self.here.runs is not False or self.elsewhere:
            return ""
        return f"no writer runs on this node, so that nothing is done: {self.remedy}"

    @property
    def spool_lack(self) -> str:
        """As ``lack``, for what lies in this node's spool, which only its own writer reads."""
        if self.here.runs is not False:
            return ""
        return f"no writer runs on this node, and no other one reads its spool: {self.remedy}"

    def __str__(self) -> str:
        """One line for an operator."""
        others = f"; also on {', '.join(self.elsewhere)}" if self.elsewhere else ""
        if self.here.runs:
            process = f", process {self.here.process}" if self.here.process else ""
            return f"runs on this node{process}{others}"
        if self.here.runs is None:
            return f"this user may not see whether it runs on this node{others}"
        if self.elsewhere:
            return f"none on this node ({self.remedy}); runs on {', '.join(self.elsewhere)}"
        return f"none runs on this node: {self.remedy}"


def look(conf: cfg.ConfigOpts) -> Writers:
    """The writers now; a database that fails knows of none."""
    options = conf.replication
    directory = pathlib.Path(options.spool_dir)
    return Writers(local_writer(directory), _elsewhere(conf, directory), _REMEDIES[options.writer])


def _elsewhere(conf: cfg.ConfigOpts, directory: pathlib.Path) -> list[str]:
    try:
        rows = database.open_current(conf.replication.connection)
        states = TargetStates(rows).since(timeutils.utcnow() - FRESH) if rows else []
    except (exceptions.ConfigError, *database.PROBLEMS):
        return []
    return sorted({state.node for state in states} - {_own_name(directory)})


def _own_name(directory: pathlib.Path) -> str:
    try:
        return (directory / NODE_FILE).read_text().strip()
    except OSError:
        return ""


def check(deployment: Deployment) -> Iterator[Finding]:
    """Look at the end of all checks, by when Glance has been asked for something."""
    conf = deployment.replication
    end = time.monotonic() + _PATIENCE_SECONDS
    is_embedded = conf.replication.writer == "embedded"
    while (found := look(conf)).here.runs is False and is_embedded and time.monotonic() < end:
        time.sleep(_LOOK_SECONDS)
    if found.here.runs:
        yield ok(_WHERE, str(found))
    elif found.here.runs is None:
        yield note(_WHERE, str(found))
    elif is_embedded:
        yield warning(_WHERE, "none runs on this node", found.remedy)
    else:
        yield error(_WHERE, "none runs on this node: nothing is replicated", found.remedy)
