# SPDX-License-Identifier: Apache-2.0
"""From Glance's answer to the last location, for images of several sizes."""

import functools
import statistics
from collections.abc import Iterator, Mapping, Set

import psutil

from benchmarks.accounting import medians
from benchmarks.bodies import GIB, MIB, Body, qcow2_full, random_bytes
from benchmarks.contenders import Ours, told
from benchmarks.figures import Figure, Goal
from benchmarks.settings import Settings
from benchmarks.stage import MEMORY, TARGETS, Stage
from benchmarks.turns import alternate

NAMES = ("lag", "lag-growth")
# One look at the image takes some 20 ms, and the machine's noise is of that size, too.
_NOTHING_SECONDS = 0.1
_COPIES = TARGETS + 2  # the spool and the primary store
_RESERVE_BYTES = GIB


def run(stage: Stage, settings: Settings, wanted: Set[str]) -> Iterator[Figure]:
    sizes, notes = _that_fit(settings.lag_sizes)
    bodies = {f"{size // MIB} MiB": _body(stage, size) for size in sizes}
    ours = Ours(stage.ours)
    try:
        ours.run(next(iter(bodies.values())))
        samples = alternate(
            {name: functools.partial(told, name, ours, body) for name, body in bodies.items()},
            settings.rounds,
        )
    finally:
        for body in bodies.values():
            body.path.unlink()
    lags = {name: [each.lag for each in runs] for name, runs in samples.items()}
    cpu = medians({name: [each.usage for each in runs] for name, runs in samples.items()})
    yield from _figures(lags, cpu, notes, wanted)


def _figures(
    lags: Mapping[str, list[float]],
    cpu: Mapping[str, Mapping[str, float]],
    notes: tuple[str, ...],
    wanted: Set[str],
) -> Iterator[Figure]:
    medians_of = {name: statistics.median(each) for name, each in lags.items()}
    each = ", ".join(f"{name} {value:.2f} s" for name, value in medians_of.items())
    if "lag" in wanted:
        yield Figure(
            "lag",
            "Glance's answer to the last location, the slowest size",
            max(medians_of.values()),
            "s",
            Goal(0.3),
            samples=lags,
            cpu_seconds=cpu,
            notes=(*notes, f"medians: {each}"),
        )
    if "lag-growth" in wanted:
        smallest, *_, largest = medians_of.values()
        yield Figure(
            "lag-growth",
            "the same: the largest image's less the smallest's",
            largest - smallest,
            "s",
            Goal(_NOTHING_SECONDS),
            notes=notes,
        )


def _body(stage: Stage, size: int) -> Body:
    """What is large must not take memory itself."""
    path = stage.top / f"lag-{size}"
    return random_bytes(path, size) if size < GIB else qcow2_full(path, size)


def _that_fit(sizes: tuple[int, ...]) -> tuple[list[int], tuple[str, ...]]:
    free = min(psutil.virtual_memory().available, psutil.disk_usage(str(MEMORY)).free)
    fitting = [size for size in sizes if size * _COPIES + _RESERVE_BYTES <= free]
    notes = [
        f"{size // MIB} MiB was left out: it takes {size * _COPIES // GIB} GiB of memory"
        for size in sizes
        if size not in fitting
    ]
    return fitting, tuple(notes)
