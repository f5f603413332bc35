# SPDX-License-Identifier: Apache-2.0
"""``glance-repl-manage status --watch``: what goes on now, shown again and again."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import prettytable
from oslo_utils import timeutils

from glance_repl_mw.checks import database as database_checks
from glance_repl_mw.checks import secrecy
from glance_repl_mw.db.overview import ReplicaOverview
from glance_repl_mw.foreign_text import printable
from glance_repl_mw.model import Replica, ReplicaStatus
from glance_repl_mw.spool.upload import Upload, UploadState

DEFAULT_SECONDS = 2.0
_MIB = 1024**2
_UPLOADS = 20
_FAILURES = 10
_ERROR_WIDTH = 60
_ERROR_CHARACTERS = 1000
# The cursor goes to the upper left corner, and all from there on is erased.
_START_OF_SCREEN = "\x1b[H\x1b[J"
_SHOWN = [status for status in ReplicaStatus if status is not ReplicaStatus.DELETED]

Counts = Mapping[str, Mapping[ReplicaStatus, int]]


def seconds(text: str) -> float:
    """The pause between two looks, as an argument.

    :raises argparse.ArgumentTypeError: it is no number, or too small for a database
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0.1 <= number <= 86400:
        raise argparse.ArgumentTypeError("must be a number of seconds from 0.1 to 86400")
    return number


def repeat(block: Callable[[], str], pause_seconds: float) -> int:
    """Show the block until Ctrl-C: in place on a terminal, else one below the other.

    A database that fails is shown as such, and asked again.
    """
    in_place = sys.stdout.isatty()
    try:
        while True:
            try:
                text = block()
            except database_checks.PROBLEMS as problem:
                reason = secrecy.redact(database_checks.explain(problem))
                text = f"The database cannot be read: {reason}"
            now = timeutils.utcnow().isoformat(" ", "seconds")
            start = _START_OF_SCREEN if in_place else ""
            print(f"{start}{now} UTC\n\n{text}\n", flush=True)
            time.sleep(pause_seconds)
    except KeyboardInterrupt:
        return 0


class Watch:
    """Makes the block of all targets; rates are those since the block before.

    :param counts: how many replicas each target has in each status
    :param writers: which writers run
    :param uploads: those that the spool of this node holds
    """

    def __init__(
        self,
        overview: ReplicaOverview,
        counts: Callable[[], Counts],
        writers: Callable[[], object],
        uploads: Callable[[], Sequence[Upload]],
    ) -> None:
        self._overview = overview
        self._counts = counts
        self._writers = writers
        self._uploads = uploads
        self._sent: dict[tuple[str, str], int] = {}
        self._looked_at = 0.0

    def block(self) -> str:
        """What goes on now.

        :raises oslo_db.exception.DBError:
        """
        head = [f"Writer: {self._writers()}", self._lag(), *self._spooled()]
        parts = ["\n".join(head), _counts_table(self._counts()).get_string()]
        under_way = self._overview.under_way(_UPLOADS)
        rates = self._rates(under_way)
        if under_way:
            parts.append(f"Under way:\n{_uploads_table(under_way, rates)}")
        failed = self._overview.failed(_FAILURES)
        if failed:
            parts.append(f"Errors:\n{_failures_table(failed)}")
        return "\n\n".join(parts)

    def _lag(self) -> str:
        since = self._overview.waiting_since()
        lags = [(timeutils.utcnow() - since).total_seconds()] if since else []
        now = timeutils.utcnow_ts(microsecond=True)
        for upload in self._accepted():
            if not self._overview.has_rows(upload.upload_id):
                lags.append(now - upload.created_at)
        if not lags:
            return "Lag: none, no replica waits"
        return f"Lag: {max(0.0, *lags):.0f} s, the longest time that a replica waits now"

    def _spooled(self) -> list[str]:
        accepted = self._accepted()
        if not accepted:
            return []
        size = sum(upload.received or 0 for upload in accepted) / _MIB
        return [f"Spool of this node: {len(accepted)} accepted uploads, {size:.1f} MiB"]

    def _accepted(self) -> list[Upload]:
        return [each for each in self._uploads() if each.state is UploadState.ACCEPTED]

    def _rates(self, replicas: Sequence[Replica]) -> dict[tuple[str, str], float | None]:
        """Bytes per second by upload and target; None for what was not there before."""
        now = time.monotonic()
        passed, self._looked_at = now - self._looked_at, now
        before = self._sent
        self._sent = {_key(each): each.bytes_sent for each in replicas}
        return {
            key: max(0, sent - before[key]) / passed if key in before else None
            for key, sent in self._sent.items()
        }


def _key(replica: Replica) -> tuple[str, str]:
    return replica.upload_id, replica.target


def _table(*columns: str) -> prettytable.PrettyTable:
    table = prettytable.PrettyTable(columns)
    table.align = "l"
    return table


def _counts_table(counts: Counts) -> prettytable.PrettyTable:
    table = _table("Target", *(str(status) for status in _SHOWN))
    for target, numbers in sorted(counts.items()):
        table.add_row([target, *(numbers.get(status, 0) for status in _SHOWN)])
    return table


def _uploads_table(
    replicas: Sequence[Replica], rates: Mapping[tuple[str, str], float | None]
) -> prettytable.PrettyTable:
    table = _table("Image", "Target", "MiB sent", "Progress", "MiB/s")
    for replica in replicas:
        rate = rates[_key(replica)]
        table.add_row(
            [
                replica.image_id,
                replica.target,
                f"{replica.bytes_sent / _MIB:.1f}",
                "" if replica.size is None else f"{replica.progress:.0%}",
                "" if rate is None else f"{rate / _MIB:.1f}",
            ]
        )
    return table


def _failures_table(replicas: Sequence[Replica]) -> prettytable.PrettyTable:
    table = _table("Image", "Target", "Attempts", "Next attempt", "Error")
    table.max_width["Error"] = _ERROR_WIDTH
    for replica in replicas:
        moment = replica.as_dict()["next_attempt_at"] or "none"
        table.add_row(
            [
                replica.image_id,
                replica.target,
                replica.attempts,
                moment,
                printable(replica.error or "", _ERROR_CHARACTERS),
            ]
        )
    return table
