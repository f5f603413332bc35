# SPDX-License-Identifier: Apache-2.0
"""What the writer takes when there is nothing to do."""

import time
from collections.abc import Iterator, Set

from benchmarks.accounting import threads_of
from benchmarks.bodies import random_bytes
from benchmarks.figures import Figure, Goal
from benchmarks.settings import Settings
from benchmarks.stage import TARGETS, Stage

NAMES = ("idle", "idle-with-images")
# A minute after its start, and soon after an upload, the writer looks at some things once more.
_REST_SECONDS = 70
# Within two minutes it has read back and verified what has just come.
_REST_AFTER_UPLOADS_SECONDS = 130
_IMAGES = 20
_GOAL = Goal(0.2)


def run(stage: Stage, settings: Settings, wanted: Set[str]) -> Iterator[Figure]:
    what = f"CPU of the idle writer, % of a core, over {settings.idle_seconds:g} s"
    if "idle" in wanted:
        yield _measured(stage, settings, "idle", what, _REST_SECONDS)
    if "idle-with-images" in wanted:
        images = _upload(stage, settings)
        what = f"the same, with {len(images)} images at {TARGETS} targets"
        yield _measured(stage, settings, "idle-with-images", what, _REST_AFTER_UPLOADS_SECONDS)
        for image_id in images:
            stage.ours.forget(image_id)


def _upload(stage: Stage, settings: Settings) -> list[str]:
    body = random_bytes(stage.directory("idle") / "small.raw", settings.small_image)
    images = [stage.ours.create() for _ in range(_IMAGES)]
    for image_id in images:
        stage.ours.put(body, f"{stage.ours.url(image_id)}/file")
        stage.ours.wait_for_locations(image_id, 1 + TARGETS)
    return images


def _measured(
    stage: Stage, settings: Settings, name: str, what: str, rest_seconds: float
) -> Figure:
    assert stage.ours.cloud is not None
    stage.ours.cloud.wait_settled()
    time.sleep(rest_seconds)
    writer = stage.ours.writer().pid
    before = threads_of(writer)
    time.sleep(settings.idle_seconds)
    used = sorted(
        (
            usage.cpu - (before[thread].cpu if thread in before else 0.0)
            for thread, usage in threads_of(writer).items()
        ),
        reverse=True,
    )
    shares = [100 * each / settings.idle_seconds for each in used]
    busiest = ", ".join(f"{share:.3f}" for share in shares[:3])
    notes = (f"{len(shares)} threads, the busiest {busiest}",)
    return Figure(name, what, sum(shares), "%", _GOAL, notes=notes)
