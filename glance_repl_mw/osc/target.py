# SPDX-License-Identifier: Apache-2.0
"""``openstack image replica target list``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from osc_lib.cli import format_columns
from osc_lib.command import command

from glance_repl_mw.osc.rest import ReplicaService

_SHORT = ("name", "mode", "health")


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
        rows = [[_cell(target.get(name)) for name in fields] for target in targets]
        return [_title(name) for name in fields], rows


def _title(field: str) -> str:
    return "URL" if field == "url" else field.replace("_", " ").title()


def _cell(value: Any) -> Any:
    """What is nested is a text for people, and stays as it is for programs."""
    if isinstance(value, dict):
        return format_columns.DictColumn(value)
    if isinstance(value, list):
        return format_columns.ListDictColumn(value)
    return value
