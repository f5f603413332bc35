# SPDX-License-Identifier: Apache-2.0
"""What an upload pays for: the machine, the spool, the writer, and targets beside Glance."""

import functools
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.accounting import medians
from benchmarks.bodies import Body, random_bytes
from benchmarks.contenders import Contender, Ours, Sample, told
from benchmarks.far import FarTarget
from benchmarks.figures import Figure, compare
from benchmarks.settings import Settings
from benchmarks.site import Site, behind
from benchmarks.stage import TARGETS, Stage
from benchmarks.turns import alternate

NAMES = ("upload-parts",)
BARE, BESIDE, SPOOL, FAR, ELSEWHERE, ALL = (
    "bare Glance",
    "bare Glance beside a stranger",
    "with the filter, the writer stopped",
    "with the filter, targets that throw the bytes away",
    "with the filter, writer and targets on one processor",
    "with the filter",
)
_WHAT = {
    BESIDE: "upload, bare Glance beside a program that hashes (nice 19) / bare Glance",
    SPOOL: "upload, with the filter and a writer that is stopped meanwhile / bare Glance",
    FAR: "upload, with the filter, to targets that take no processor for the bytes / bare Glance",
    ELSEWHERE: "upload, with the filter, writer and targets on one processor / bare Glance",
    ALL: "upload, with the filter / bare Glance, beside these two",
}
_COMPLETE = "seconds to all locations, with such targets / bare upload"
_STRANGERS_NICE = 19
_STRANGER = "import hashlib, os; os.nice(19)\nwhile True: hashlib.sha512(bytes(1 << 20))"


class BareBesideAStranger(Contender):
    """Another processor is busy with other things: what this machine takes for that alone."""

    def run(self, body: Body) -> Sample:
        with subprocess.Popen([sys.executable, "-c", _STRANGER], start_new_session=True) as other:
            _let_session_have(other.pid, _STRANGERS_NICE)
            try:
                return super().run(body)
            finally:
                other.kill()


class OursStopped(Ours):
    """The writer begins when the upload has ended: what the filter alone costs."""

    def upload(self, image_id: str, body: Body) -> None:
        writer = self.site.writer()
        writer.suspend()
        try:
            super().upload(image_id, body)
        finally:
            writer.resume()


class OursElsewhere(Ours):
    """Writer and targets keep to one processor, as if Glance had one of its own."""

    def run(self, body: Body) -> Sample:
        every = os.sched_getaffinity(0)
        self._keep_to({max(every)})
        try:
            return super().run(body)
        finally:
            self._keep_to(every)

    def _keep_to(self, processors: Set[int]) -> None:
        targets = [psutil.Process(behind(target).pid) for target in self.site.targets]
        for process in (self.site.writer(), *targets):
            for thread in process.threads():
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(thread.id, processors)


def _let_session_have(process: int, nice: int) -> None:
    """Where the kernel groups processes by session, the group has a value of its own."""
    with suppress(OSError):
        Path(f"/proc/{process}/autogroup").write_text(str(nice))


def run(stage: Stage, settings: Settings, _wanted: Set[str]) -> Iterator[Figure]:
    notes = (f"an image of {settings.several_targets_image >> 20} MiB",)
    directory = stage.directory("far")
    far = {name: FarTarget(directory / name) for name in (f"far-{n}" for n in range(TARGETS))}
    with stage.filtered(far) as site:
        samples = _samples(stage, site, settings)
    uploads = {name: [each.upload for each in runs] for name, runs in samples.items()}
    cpu = medians({name: [each.usage for each in runs] for name, runs in samples.items()})
    for name, what in _WHAT.items():
        used = {each: cpu[each] for each in (name, BARE)}
        yield compare("upload-parts", what, uploads, name, BARE, notes=notes, cpu_seconds=used)
    complete = {FAR: [each.complete for each in samples[FAR]], BARE: uploads[BARE]}
    yield compare("upload-parts", _COMPLETE, complete, FAR, BARE, notes=notes)


def _samples(stage: Stage, far: Site, settings: Settings) -> Mapping[str, Sequence[Sample]]:
    body = random_bytes(stage.top / "parts.raw", settings.several_targets_image)
    small = random_bytes(stage.top / "warm-up.raw", settings.warm_up)
    contenders = {
        BARE: Contender(stage.bare),
        BESIDE: BareBesideAStranger(stage.bare),
        SPOOL: OursStopped(stage.ours),
        FAR: Ours(far),
        ELSEWHERE: OursElsewhere(stage.ours),
        ALL: Ours(stage.ours),
    }
    try:
        alternate(
            {name: functools.partial(each.run, small) for name, each in contenders.items()}, 1
        )
        return alternate(
            {name: functools.partial(told, name, each, body) for name, each in contenders.items()},
            settings.rounds,
        )
    finally:
        small.path.unlink()
        body.path.unlink()
