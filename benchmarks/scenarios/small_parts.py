# SPDX-License-Identifier: Apache-2.0
"""What a small image pays for: another site, the filter, and the writer beside it."""

import dataclasses
import functools
from collections.abc import Iterator, Set
from contextlib import contextmanager

from benchmarks.accounting import medians
from benchmarks.figures import Figure, compare
from benchmarks.scenarios.small import BARE, OURS, Batch, batch
from benchmarks.settings import Settings
from benchmarks.site import Site
from benchmarks.stage import Stage
from benchmarks.turns import alternate
from tests.lab.images import image_bytes

NAMES = ("small-parts",)
PASSING, STOPPED = "with the filter, no target", "with the filter, the writer stopped"
_WHAT = {
    PASSING: "small images per second, filter without targets, which spools nothing / bare Glance",
    STOPPED: "small images per second, with a writer that is stopped meanwhile / bare Glance",
    OURS: "small images per second, with the filter / bare Glance, beside these two",
}


def run(stage: Stage, settings: Settings, _wanted: Set[str]) -> Iterator[Figure]:
    body = image_bytes(settings.small_image)
    with stage.filtered(0) as passing:
        sites = {BARE: stage.bare, PASSING: passing, OURS: stage.ours}
        few = dataclasses.replace(settings, small_images_per_round=settings.small_clients)
        for site in sites.values():
            batch(site, few, body)
        contenders = {
            name: functools.partial(batch, site, settings, body) for name, site in sites.items()
        }
        contenders[STOPPED] = functools.partial(_without_writer, stage.ours, settings, body)
        rounds = 3 * settings.rounds
        samples = alternate(contenders, rounds)
    rates = {name: [each.per_second for each in found] for name, found in samples.items()}
    cpu = medians({name: [each.usage for each in found] for name, found in samples.items()})
    notes = (f"{settings.small_images_per_round * rounds} uploads of each kind",)
    for name, what in _WHAT.items():
        used = {each: cpu[each] for each in (name, BARE)}
        yield compare("small-parts", what, rates, name, BARE, cpu_seconds=used, notes=notes)


def _without_writer(site: Site, settings: Settings, body: bytes) -> Batch:
    return batch(site, settings, body, meanwhile=_stopped_writer(site))


@contextmanager
def _stopped_writer(site: Site) -> Iterator[None]:
    writer = site.writer()
    writer.suspend()
    try:
        yield
    finally:
        writer.resume()
