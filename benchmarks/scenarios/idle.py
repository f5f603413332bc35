"""What the writer takes when there is nothing to do."""

import time
from collections.abc import Iterator, Set

from benchmarks.accounting import threads_of
from benchmarks.figures import Figure, Goal
from benchmarks.settings import Settings
from benchmarks.stage import Stage

NAMES = ("idle",)
# A minute after its start, and soon after an upload, the writer looks at some things once more.
_REST_SECONDS = 70


def run(stage: Stage, settings: Settings, _wanted: Set[str]) -> Iterator[Figure]:
    assert stage.ours.cloud is not None
    stage.ours.cloud.wait_settled()
    time.sleep(_REST_SECONDS)
    writer = stage.ours.writer().pid
    before = threads_of(writer)
    time.sleep(settings.idle_seconds)
    after = threads_of(writer)
    used = sum(
        usage.cpu - (before[thread].cpu if thread in before else 0.0)
        for thread, usage in after.items()
    )
    yield Figure(
        "idle",
        f"CPU of the idle writer, % of a core, over {settings.idle_seconds:g} s",
        100 * used / settings.idle_seconds,
        "%",
        Goal(0.2),
        notes=(f"{len(after)} threads",),
    )
