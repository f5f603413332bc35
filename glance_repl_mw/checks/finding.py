# SPDX-License-Identifier: Apache-2.0
"""What a check says to the operator."""

from __future__ import annotations

import dataclasses
import enum

from glance_repl_mw.foreign_text import printable

_MOST = 2000


class Level(enum.StrEnum):
    """How bad it is; the order is that of severity."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the report.

    :ivar where: the section, file or target that it is about
    :ivar remedy: what the operator can do; empty where nothing is to be done
    """

    level: Level
    where: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.level}: {self.where}: {self.text.rstrip(' .')}"
        return printable(f"{line}; {self.remedy}" if self.remedy else line, _MOST)


def ok(where: str, text: str) -> Finding:
    return Finding(Level.OK, where, text)


def note(where: str, text: str) -> Finding:
    """What the operator should know, and is not wrong."""
    return Finding(Level.NOTE, where, text)


def warning(where: str, text: str, remedy: str) -> Finding:
    return Finding(Level.WARNING, where, text, remedy)


def error(where: str, text: str, remedy: str) -> Finding:
    return Finding(Level.ERROR, where, text, remedy)
