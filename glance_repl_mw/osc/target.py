"""``openstack image replica target list``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from osc_lib.command import command

from glance_repl_mw.osc.rest import ReplicaService


class ListImageReplicaTarget(command.Lister):
    """List the targets that images can be replicated to"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--long", action="store_true", help="List all that you may know of the targets"
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        targets = ReplicaService.of(self).targets()
        fields = list(dict.fromkeys(name for target in targets for name in target))
        if not parsed_args.long:
            fields = [name for name in fields if name in _SHORT]
        rows = [[target.get(name) for name in fields] for target in targets]
        return [name.replace("_", " ").title() for name in fields], rows


_SHORT = ("name", "mode", "status")
