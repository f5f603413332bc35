# SPDX-License-Identifier: Apache-2.0
"""The subcommands ``deletions show`` and ``deletions release`` of ``glance-repl-manage``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import prettytable
from oslo_config import cfg
from oslo_utils import timeutils

from glance_repl_mw import exceptions, opts
from glance_repl_mw.checks import deployment
from glance_repl_mw.cmd.records import Records, require_records
from glance_repl_mw.db.deletions import Absence, BreakerState, DeletionRecords
from glance_repl_mw.model import CLOSED
from glance_repl_mw.reconciler import known_glance
from glance_repl_mw.reconciler.deletion_guard import missing_delay

_COLUMNS = ("Image", "Missing since", "Replicas at", "State")
_STOPPED = 1
_HELP = "images that are missing in Glance, and whose replicas are to be deleted"


def add_command(commands: Any) -> None:
    """Add these subcommands to argparse's subparsers."""
    parser = commands.add_parser("deletions", help=_HELP)
    actions = parser.add_subparsers(required=True, metavar="COMMAND")
    shown = actions.add_parser("show", help="show them, and whether deletions are stopped")
    shown.add_argument("--format", choices=("table", "json"), default="table")
    shown.set_defaults(run=_show)
    release = actions.add_parser(
        "release", help="go on with deletions that are stopped; images named here are gone"
    )
    release.add_argument(
        "image", nargs="*", metavar="IMAGE", help="is gone: its replicas may be deleted now"
    )
    release.add_argument(
        "--all-missing", action="store_true", help="so is every image that deletions show lists"
    )
    release.add_argument(
        "--this-glance",
        action="store_true",
        help="instead: the Glance that answers is the right one, though it is not as it was known",
    )
    release.set_defaults(run=_release)


def stopped(records: DeletionRecords) -> str:
    """What is to be told where deletions are stopped, empty where they are not.

    :raises oslo_db.exception.DBError:
    """
    state = records.breaker()
    if state.tripped_at is None:
        return ""
    since = state.tripped_at.isoformat(" ", "seconds")
    see = "see glance-repl-manage deletions show"
    return f"Deletions are stopped since {since} UTC: {state.why}; {see}"


def _show(conf: cfg.ConfigOpts) -> int:
    """Returns 1 where deletions are stopped, else 0."""
    replication = deployment.read(conf).replication
    replication.register_opts(opts.GLANCE_OPTIONS)
    records = require_records(replication)
    known = DeletionRecords(records.database)
    state, missing = known.breaker(), known.absences()
    lines = [_line(replication, records, absence) for absence in missing]
    if conf.command.format == "json":
        print(json.dumps({"stopped": _view(state), "missing": lines}, indent=2))
    else:
        print(stopped(known) or "Deletions go on.")
        if lines:
            print(_table(lines))
        else:
            print("No image with replicas is missing.")
    return _STOPPED if state.tripped_at is not None else 0


def _view(state: BreakerState) -> dict[str, str | None] | None:
    if state.tripped_at is None:
        return None
    return {"since": state.tripped_at.isoformat(timespec="seconds") + "Z", "why": state.why}


def _line(conf: cfg.ConfigOpts, records: Records, absence: Absence) -> dict[str, Any]:
    rows = records.survey.of_images([absence.image_id]).get(absence.image_id, ())
    return {
        "image_id": absence.image_id,
        "since": absence.since.isoformat(timespec="seconds") + "Z",
        "was_deleted": absence.was_deleted,
        "released": absence.is_released,
        "targets": sorted({row.target for row in rows if row.status not in CLOSED}),
        "state": _state(conf, absence),
    }


def _state(conf: cfg.ConfigOpts, absence: Absence) -> str:
    if absence.is_released:
        return "released: its replicas are deleted"
    if absence.was_deleted:
        return "Glance was seen to delete it"
    until = absence.since + missing_delay(conf)
    if timeutils.utcnow() < until:
        return f"is taken for gone from {until.isoformat(' ', 'seconds')} UTC on"
    return "waits for the proof that Glance shows all images, or for its turn"


def _table(lines: Sequence[dict[str, Any]]) -> prettytable.PrettyTable:
    table = prettytable.PrettyTable(_COLUMNS)
    table.align = "l"
    for line in lines:
        where = ", ".join(line["targets"]) or "-"
        table.add_row([line["image_id"], line["since"], where, line["state"]])
    return table


def _release(conf: cfg.ConfigOpts) -> int:
    records = require_records(deployment.read(conf).replication)
    known = DeletionRecords(records.database)
    command = conf.command
    if command.this_glance:
        if command.image or command.all_missing:
            raise exceptions.ConfigError(hint="--this-glance goes alone")
        known_glance.trust_another(known)
        print("The Glance that answers at the next comparison of all images is the right one.")
        return 0
    return _release_images(known, command)


def _release_images(known: DeletionRecords, command: Any) -> int:
    missing = {absence.image_id for absence in known.absences()}
    unknown = sorted(set(command.image) - missing)
    if unknown:
        raise exceptions.ConfigError(
            unknown[0], operation="deletions release", hint="the image is not missing in Glance"
        )
    released = missing if command.all_missing else set(command.image)
    known.release(released)
    print("Deletions go on; what was deleted before counts no more.")
    if released:
        print(f"Images whose replicas are deleted now, unless Glance shows them: {len(released)}.")
    return 0
