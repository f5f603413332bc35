# SPDX-License-Identifier: Apache-2.0
"""The writer's memory for images of very different sizes."""

import subprocess
import threading
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path

from benchmarks.accounting import status_bytes
from benchmarks.bodies import GIB, MIB, zeros
from benchmarks.contenders import Ours
from benchmarks.figures import Figure, Goal
from benchmarks.settings import Settings
from benchmarks.stage import Stage

NAMES = ("writer-memory",)
_EVERY_SECONDS = 0.5
# What is smaller is not worth it.
_LARGE_BYTES = 16 * MIB


def run(stage: Stage, settings: Settings, _wanted: Set[str]) -> Iterator[Figure]:
    with stage.filtered() as site:
        ours, writer = Ours(site), site.writer().pid
        peaks = {}
        for size in settings.memory_sizes:
            body = zeros(stage.top / "memory.raw", size)
            with without_zeros(stage.top):
                ours.run(body)
            body.path.unlink()
            peaks[f"{size / GIB:g} GiB"] = [status_bytes(writer, "VmHWM") / MIB]
    (small_name, small), (large_name, large) = peaks.items()
    yield Figure(
        "writer-memory",
        f"most resident memory of the writer, after {large_name} / after {small_name}",
        large[0] / small[0],
        goal=Goal(1.05),
        samples=peaks,
        notes=(f"{small[0]:.0f} MiB, {large[0]:.0f} MiB",),
    )


@contextmanager
def without_zeros(top: Path) -> Iterator[None]:
    """Give back the memory of what was written, so that five copies of the image fit.

    The image is all zeros, and a hole reads as zeros: nobody can tell.
    """
    ended = threading.Event()

    def dig() -> None:
        while not ended.wait(_EVERY_SECONDS):
            for path in _large_files(top):
                subprocess.run(["fallocate", "--dig-holes", str(path)], stderr=subprocess.DEVNULL)

    digging = threading.Thread(target=dig)
    digging.start()
    try:
        yield
    finally:
        ended.set()
        digging.join()


def _large_files(top: Path) -> Iterator[Path]:
    for path in top.rglob("*"):
        try:
            allocated = path.stat().st_blocks * 512
        except FileNotFoundError:
            continue
        if path.is_file() and allocated > _LARGE_BYTES:
            yield path
