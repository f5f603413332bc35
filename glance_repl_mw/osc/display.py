# SPDX-License-Identifier: Apache-2.0
"""How far replicas are, while a command waits: bars on a terminal, else plain lines."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

Show = Callable[[dict[str, Any]], None]

BAR_SECONDS = 1.0
LINE_SECONDS = 30.0


def step_seconds(stream: TextIO | None = None) -> float:
    """How often a state is wanted: bars move, a line comes only with a change of status."""
    return BAR_SECONDS if (stream or sys.stderr).isatty() else LINE_SECONDS


@contextlib.contextmanager
def progress(stream: TextIO | None = None) -> Iterator[Show]:
    """What to call with each state of a replica; standard error leaves the output to data."""
    stream = stream or sys.stderr
    if not stream.isatty():
        yield _Lines(stream).show
        return
    bars = _Bars(stream)
    with bars.progress:
        yield bars.show


class _Lines:
    """A line when a replica's status or its error changes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown: dict[str, str] = {}

    def show(self, replica: dict[str, Any]) -> None:
        target, words = replica["target"], _words(replica)
        if self._shown.get(target) != words:
            self._shown[target] = words
            print(f"{target}: {words}", file=self._stream, flush=True)


class _Bars:
    """A bar for each target."""

    def __init__(self, stream: TextIO) -> None:
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(32),
            DownloadColumn(binary_units=True),
            TextColumn("{task.fields[words]}", markup=False),
            console=Console(file=stream),
        )
        self._tasks: dict[str, TaskID] = {}

    def show(self, replica: dict[str, Any]) -> None:
        target, size = replica["target"], replica["size"]
        if target not in self._tasks:
            self._tasks[target] = self.progress.add_task(target, words="")
        done = replica["progress"] == 1
        self.progress.update(
            self._tasks[target],
            total=size,
            completed=size if done and size is not None else replica["bytes_sent"],
            words=_words(replica),
            refresh=True,
        )


def _words(replica: dict[str, Any]) -> str:
    status, error, at = (replica[name] for name in ("status", "error", "next_attempt_at"))
    if status != "error":
        return str(status)
    again = f"next attempt at {at}" if at else "not tried again"
    return f"error: {error}; {again}" if error else f"error; {again}"
