# SPDX-License-Identifier: Apache-2.0
"""How far the upload and its replicas are: live bars on a terminal, else a few plain lines."""

import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

_STEPS = 4


class Track(NamedTuple):
    """How many of the image's bytes have come to one place, and what is said of them there."""

    name: str
    received: int
    status: str


class Display(Protocol):
    """A context manager; show() is called some times a second, with the upload's track first."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...

    def show(self, tracks: Sequence[Track]) -> None: ...


class LiveBars:
    def __init__(self, console: Console, size: int) -> None:
        self._size = size
        self._tasks: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("   {task.description:<7}"),
            BarColumn(32),
            DownloadColumn(binary_units=True),
            TextColumn("{task.fields[status]}"),
            console=console,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._progress.stop()

    def show(self, tracks: Sequence[Track]) -> None:
        for name, received, status in tracks:
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name, total=self._size, status="")
            self._progress.update(self._tasks[name], completed=received, status=status)


class PlainLines:
    """A line whenever a further quarter of the image is uploaded, and one at the end."""

    def __init__(self, console: Console, size: int) -> None:
        self._console = console
        self._size = size
        self._next_step = 1
        self._tracks: Sequence[Track] = ()
        self._began = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._tracks:
            self._print(" ".join(f" {track.name} {track.status}" for track in self._tracks))

    def show(self, tracks: Sequence[Track]) -> None:
        self._tracks = tracks
        received = tracks[0].received
        if received and not self._began:
            self._began = time.monotonic()
        step = received * _STEPS // self._size
        if step >= self._next_step:
            self._next_step = step + 1
            shares = (f" {name} {100 * count // self._size:3} %" for name, count, _ in tracks)
            self._print(" ".join(shares))

    def _print(self, text: str) -> None:
        seconds = time.monotonic() - self._began if self._began else 0
        self._console.print(f"   {seconds:4.1f} s {text}")


def display(console: Console, size: int) -> Display:
    return (LiveBars if console.is_interactive else PlainLines)(console, size)
