# SPDX-License-Identifier: Apache-2.0
"""Many uploads at once, each as slow as a user's line: all at full rate, threads and memory."""

import dataclasses
import functools
import json
import statistics
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from typing import NamedTuple

import psutil

from benchmarks.accounting import Account, Usage, medians
from benchmarks.bodies import MIB, Body, random_bytes
from benchmarks.figures import Figure, Goal, spread
from benchmarks.settings import Settings
from benchmarks.site import OCTETS, Site
from benchmarks.stage import PROCESSES, TARGETS, Stage
from benchmarks.turns import alternate

NAMES = ("in-flight", "in-flight-half", "in-flight-threads", "api-memory")
OURS, BARE = "with the filter", "bare Glance"
_EVERY_SECONDS = 0.2
_ALLOWED_LOSS = 0.05
# Of the default options: connections to each target, and threads for Glance; and what the writer
# has besides its pools, such as the tasks of the reconciler.
_POOLED_THREADS = TARGETS * 32 + 4
_OTHER_THREADS = 30


class Peaks:
    """The most of some numbers, looked at all the time from a thread of its own."""

    def __init__(self) -> None:
        self.api_bytes = self.api_bytes_before = 0
        self.api_threads = self.writer_threads = 0


class Crowd(NamedTuple):
    """What came of one round."""

    accepted: int
    slowest: float
    peaks: Peaks
    usage: Usage


def run(stage: Stage, settings: Settings, wanted: Set[str]) -> Iterator[Figure]:
    body = random_bytes(stage.top / "in-flight.raw", settings.in_flight_image)
    sites = {OURS: stage.ours, BARE: stage.bare}
    half = dataclasses.replace(settings, in_flight=settings.in_flight // 2)
    try:
        if wanted != {"in-flight-half"}:
            first = _first_round(sites, settings, body)
            samples = _alternate(sites, settings, body)
        if "in-flight" in wanted:
            yield _rate("in-flight", samples, settings)
        if "in-flight-half" in wanted:
            yield _rate("in-flight-half", _alternate(sites, half, body), half)
        if "in-flight-threads" in wanted:
            yield _threads(samples, settings)
        if "api-memory" in wanted:
            yield _memory(first, settings)
    finally:
        body.path.unlink()


def _alternate(
    sites: Mapping[str, Site], settings: Settings, body: Body
) -> dict[str, list[Crowd]]:
    runs = {name: functools.partial(crowd, each, settings, body) for name, each in sites.items()}
    return alternate(runs, settings.rounds)


def _first_round(
    sites: Mapping[str, Site], settings: Settings, body: Body
) -> dict[str, list[Crowd]]:
    """The first that new workers meet, after a few uploads: what they take for it, they keep."""
    few = dataclasses.replace(settings, in_flight=2 * PROCESSES)
    for site in sites.values():
        site.glance.reload()
        crowd(site, few, body)
    return {name: [crowd(site, settings, body)] for name, site in sites.items()}


def crowd(site: Site, settings: Settings, body: Body) -> Crowd:
    """Let so many clients upload at once with a limited rate."""
    image_ids = [site.create() for _ in range(settings.in_flight)]
    limit = str(settings.in_flight_bytes_per_second)
    account = Account(site.roles())
    with watched(site) as peaks:
        clients = [_client(site, body, image_id, limit) for image_id in image_ids]
        answers = [json.loads(client.communicate()[0]) for client in clients]
    usage = account.read()
    rates = [body.size / answer["time_total"] for answer in answers]
    for image_id in image_ids:
        site.delete(image_id)
    if site.cloud is not None:
        site.cloud.wait_settled()
    accepted = sum(answer["http_code"] == 204 for answer in answers)
    return Crowd(accepted, min(rates) / settings.in_flight_bytes_per_second, peaks, usage)


@contextmanager
def watched(site: Site) -> Iterator[Peaks]:
    """Look at threads and memory of Glance's workers and of the writer until the block ends."""
    peaks = Peaks()
    workers = [psutil.Process(pid) for pid in site.glance.worker_pids()]
    writer = None if site.cloud is None else site.writer()
    ended = threading.Event()
    peaks.api_bytes_before = _resident(workers)

    def watch() -> None:
        while not ended.wait(_EVERY_SECONDS):
            with suppress(psutil.NoSuchProcess):
                peaks.api_bytes = max(peaks.api_bytes, _resident(workers))
                threads = sum(worker.num_threads() for worker in workers)
                peaks.api_threads = max(peaks.api_threads, threads)
                if writer:
                    peaks.writer_threads = max(peaks.writer_threads, writer.num_threads())

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield peaks
    finally:
        ended.set()
        watching.join()


def _resident(processes: Sequence[psutil.Process]) -> int:
    return sum(process.memory_info().rss for process in processes)


def _client(site: Site, body: Body, image_id: str, limit: str) -> subprocess.Popen[bytes]:
    url = f"{site.url(image_id)}/file"
    token = ["-H", f"X-Auth-Token: {site.token()}"]
    curl = ["curl", "-sS", "--limit-rate", limit, "-w", "%{json}", "-T", str(body.path)]
    return subprocess.Popen([*curl, *token, *OCTETS, url], stdout=subprocess.PIPE)


def _rate(name: str, samples: Mapping[str, Sequence[Crowd]], settings: Settings) -> Figure:
    cpu = medians({key: [each.usage for each in found] for key, found in samples.items()})
    shares = {name: [each.slowest for each in found] for name, found in samples.items()}
    refused = sum(settings.in_flight - each.accepted for each in samples[OURS])
    rate = settings.in_flight_bytes_per_second / MIB
    bare = statistics.median(shares[BARE])
    # One refused upload is one too many, whatever the others' rate.
    low, median, high = spread(shares[OURS])
    return Figure(
        name,
        f"{settings.in_flight} uploads at {rate:g} MiB/s: rate of the slowest / full rate",
        0.0 if refused else median,
        goal=Goal(1 - _ALLOWED_LOSS, at_least=True),
        between=(low, high),
        samples=shares,
        cpu_seconds=cpu,
        notes=(f"{refused} were refused; bare Glance: {bare:.2f}",),
    )


def _threads(samples: Mapping[str, Sequence[Crowd]], settings: Settings) -> Figure:
    peaks = [each.peaks for each in samples[OURS]]
    most = max(peak.writer_threads for peak in peaks)
    api = {name: max(each.peaks.api_threads for each in found) for name, found in samples.items()}
    return Figure(
        "in-flight-threads",
        f"threads of the writer with {settings.in_flight} uploads in flight at {TARGETS} targets",
        most,
        goal=Goal(_POOLED_THREADS + _OTHER_THREADS),
        samples={OURS: [peak.writer_threads for peak in peaks]},
        notes=(
            f"of which the pools for targets and Glance may have {_POOLED_THREADS}",
            f"Glance's workers together: {api[OURS]}, bare {api[BARE]}",
        ),
    )


def _memory(samples: Mapping[str, Sequence[Crowd]], settings: Settings) -> Figure:
    each = {
        name: [
            max(one.peaks.api_bytes - one.peaks.api_bytes_before, 0) / MIB / settings.in_flight
            for one in found
        ]
        for name, found in samples.items()
    }
    bare = statistics.median(each[BARE])
    return Figure(
        "api-memory",
        "resident memory of the API processes for each upload in flight, MiB",
        statistics.median(each[OURS]),
        "MiB",
        Goal(2),
        samples=each,
        notes=(f"bare Glance: {bare:.2f}",),
    )
