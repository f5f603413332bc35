# SPDX-License-Identifier: Apache-2.0
"""Which targets are leaving, and which have left without being emptied?"""

from __future__ import annotations

from collections.abc import Iterator

from oslo_config import cfg

from glance_repl_mw import exceptions
from glance_repl_mw.checks import database
from glance_repl_mw.checks.deployment import Deployment
from glance_repl_mw.checks.finding import Finding, warning
from glance_repl_mw.db.departed import REMEDY, departed
from glance_repl_mw.db.survey import ReplicaSurvey
from glance_repl_mw.db.wishes import TargetWishes
from glance_repl_mw.model import Wish

_WORDS = {Wish.DRAIN: "drained", Wish.REMOVE: "removed"}


def configured(conf: cfg.ConfigOpts) -> dict[str, str]:
    """The drivers by the names of the targets, whatever else is wrong with these."""
    pairs = (entry.partition(":") for entry in conf.replication.enabled_targets)
    return {name: driver for name, _, driver in pairs}


def check(deployment: Deployment) -> Iterator[Finding]:
    try:
        connection = deployment.replication.replication.connection
        rows = database.open_current(connection)
        if rows is None:
            return
        wishes = TargetWishes(rows).all()
        left = departed(ReplicaSurvey(rows), configured(deployment.replication))
    except (exceptions.ConfigError, *database.PROBLEMS):
        return  # the check of the database says so
    for target, number in left.items():
        if wishes.get(target) is not Wish.REMOVE:
            yield warning(
                target, f"is not configured, but has replicas: {number}", REMEDY % target
            )
    for target, wish in wishes.items():
        if target in configured(deployment.replication):
            yield warning(
                target,
                f"is being {_WORDS[wish]}, or was, and gets no replicas",
                "take it out of the configuration when it is empty, or run "
                f"glance-repl-manage target restore {target}",
            )
