# SPDX-License-Identifier: Apache-2.0
"""The deployment: the nodes that share a database, known by an id that they have in common."""

from __future__ import annotations

import contextlib
import os
import pathlib
import uuid

from oslo_config import cfg

from glance_repl_mw.db.deletions import DeletionRecords

FACT = "deployment"
# Beside the locks: all else in the spool comes and goes with uploads.
FILE = "deployment"


def deployment_id(conf: cfg.ConfigOpts, records: DeletionRecords) -> str:
    """The id of this node's deployment: the configured one, else made by the node that asks first.

    A file in the spool has it as well, so that a database that was lost does not take it along.

    :raises OSError: the spool cannot be written
    :raises oslo_db.exception.DBError:
    """
    spool, configured = pathlib.Path(conf.replication.spool_dir), conf.replication.deployment_id
    here = told(spool)
    wanted = configured or here or uuid.uuid4().hex
    known = records.set_fact(FACT, wanted, unless_known=not configured)
    if known != here:
        _write(spool, known)
    return known


def known_id(conf: cfg.ConfigOpts, records: DeletionRecords) -> str | None:
    """The id that this node's deployment has, or will have; None where it is yet to be made.

    :raises oslo_db.exception.DBError:
    """
    configured, spool = conf.replication.deployment_id, pathlib.Path(conf.replication.spool_dir)
    return configured or records.fact(FACT) or told(spool)


def told(spool: pathlib.Path) -> str | None:
    """The id as the spool has it, None before a writer has run here."""
    with contextlib.suppress(OSError):
        return (spool / FILE).read_text().strip() or None
    return None


def _write(spool: pathlib.Path, value: str) -> None:
    temporary = spool / f"{uuid.uuid4().hex}.tmp"
    with temporary.open("w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(value)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(spool / FILE)
