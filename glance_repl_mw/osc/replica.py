# SPDX-License-Identifier: Apache-2.0
"""``openstack image replica list | show | sync | delete``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cliff import columns
from osc_lib import exceptions
from osc_lib.command import command

from glance_repl_mw.osc import display, waiting
from glance_repl_mw.osc.rest import ReplicaService

Table = tuple[Sequence[str], Iterable[Sequence[Any]]]

_COLUMNS = {
    "Target": "target",
    "Status": "status",
    "Progress": "progress",
    "Size": "size",
    "Updated At": "updated_at",
}
_LONG_COLUMNS = {
    **_COLUMNS,
    "Bytes Sent": "bytes_sent",
    "Checksum": "checksum",
    "Location URL": "location_url",
    "Attempts": "attempts",
    "Error": "error",
    "Next Attempt At": "next_attempt_at",
    "Created At": "created_at",
}


class Share(columns.FormattableColumn[float]):
    """A share of one: a percentage for people, the number for programs."""

    def human_readable(self) -> str:
        return f"{self._value:.0%}"


class _Waiting:
    """What the commands that can wait have in common: --wait, and how they end.

    The table is printed in any case; the status is 1 where a replica did not become active.
    """

    app: Any
    problems: list[str]

    def add_wait_option(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--wait",
            metavar="<seconds>",
            nargs="?",
            type=_seconds,
            const=None,
            default=0.0,
            help="Wait until the replica is active, for at most so many seconds; without a "
            "number as long as it takes, or until an attempt fails. Ends with an error where the "
            "replica is not active then.",
        )

    def waited(
        self,
        service: ReplicaService,
        replicas: Mapping[str, dict[str, Any]],
        limit: float | None,
    ) -> dict[str, dict[str, Any]]:
        """The replicas by target as they are when the wait has ended."""
        if limit == 0:
            return dict(replicas)
        patience = waiting.Patience(limit, display.step_seconds())
        with display.progress() as show:
            endings = waiting.wait_for_all(service, replicas, patience, show)
        for target in replicas:
            if problem := endings[target].problem:
                self.problems.append(f"Target {target}: {problem}")
        return {target: endings[target].replica for target in replicas}

    def run(self, parsed_args: argparse.Namespace) -> int:
        self.problems = []
        status: int = super().run(parsed_args)  # type: ignore[misc]
        if self.problems:
            raise exceptions.CommandError("\n".join(self.problems))
        return status


class ListImageReplica(command.Lister):
    """List the replicas of an image"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_image(parser)
        parser.add_argument("--long", action="store_true", help="List further fields")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Table:
        service = ReplicaService.of(self)
        replicas = service.replicas(service.image_id(parsed_args.image))
        return _table(_LONG_COLUMNS if parsed_args.long else _COLUMNS, replicas)


class ShowImageReplica(_Waiting, command.ShowOne):
    """Show the replica of an image at one target"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_image(parser)
        _add_target(parser)
        self.add_wait_option(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        service = ReplicaService.of(self)
        image_id, target = service.image_id(parsed_args.image), parsed_args.target
        replica = service.replica(image_id, target).replica
        replica = self.waited(service, {target: replica}, parsed_args.wait)[target]
        return tuple(replica), tuple(map(_cell, replica, replica.values()))


class SyncImageReplica(_Waiting, command.Lister):
    """Replicate an image to targets now, ahead of everything else"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_image(parser)
        parser.add_argument(
            "targets", metavar="<target>", nargs="*", help="Target (repeat for several)"
        )
        parser.add_argument("--all", action="store_true", help="All targets")
        self.add_wait_option(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Table:
        if bool(parsed_args.targets) == parsed_args.all:
            raise exceptions.CommandError("Name one target or more, or give --all.")
        service = ReplicaService.of(self)
        image_id = service.image_id(parsed_args.image)
        targets = parsed_args.targets or [target["name"] for target in service.targets()]
        begun = {}
        for target in dict.fromkeys(targets):
            try:
                begun[target] = service.synchronise(image_id, target).replica
            except exceptions.CommandError as error:
                self.problems.append(f"Target {target}: {error}")
        return _table(_COLUMNS, self.waited(service, begun, parsed_args.wait).values())


class DeleteImageReplica(command.Command):
    """Delete the replica of an image at one target: its location and its object"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_image(parser)
        _add_target(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        service = ReplicaService.of(self)
        service.delete(service.image_id(parsed_args.image), parsed_args.target)


def _add_image(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="<image>", help="Image (name or ID)")


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="<target>", help="Target (name)")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError("the seconds to wait must be more than 0")
    return seconds


def _table(titles: Mapping[str, str], replicas: Iterable[Mapping[str, Any]]) -> Table:
    fields = titles.values()
    return tuple(titles), [[_cell(name, each[name]) for name in fields] for each in replicas]


def _cell(name: str, value: Any) -> Any:
    return Share(value) if name == "progress" else value
