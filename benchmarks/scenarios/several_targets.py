# SPDX-License-Identifier: Apache-2.0
"""Uploads with other targets than three good ones: many, bad ones, and some behind TLS."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from benchmarks.accounting import medians
from benchmarks.bodies import Body, random_bytes
from benchmarks.contenders import Contender, Ours, OursWithoutWait, Sample, told
from benchmarks.figures import Figure, Goal, compare
from benchmarks.settings import Settings
from benchmarks.site import Site
from benchmarks.stage import TARGETS, Stage
from benchmarks.turns import alternate
from tests.lab.certificates import Authority
from tests.lab.faults import DOWN, HANGING, HEALTHY, Fault, FaultyTarget
from tests.lab.glance import Glance
from tests.lab.webservers import Nginx

NAMES = ("ten-targets", "ten-targets-line", "bad-targets", "tls")
FAULTS = {"dead": DOWN, "hanging": HANGING, "slow": Fault(bytes_per_second=100 << 10)}
# Between two runs the targets are good again, and what was left is cleared away soon.
QUICK_REPAIR = {
    "retry_initial_seconds": "1",
    "retry_max_seconds": "2",
    "probe_interval_seconds": "2",
}


class OwnAuthority(Glance):
    """Trusts the authority that its configuration names; requests prefers the environment's."""

    def environment(self) -> dict[str, str]:
        environment = super().environment()
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            environment.pop(name, None)
        return environment


class OursWithFaults(OursWithoutWait):
    """Every upload meets the faults anew; afterwards the targets are good and all is cleared."""

    def run(self, body: Body) -> Sample:
        for name, target in self._faulty().items():
            target.switch(FAULTS[name])
        return super().run(body)

    def complete(self, image_id: str) -> None:
        super().complete(image_id)
        for target in self._faulty().values():
            target.switch(HEALTHY)

    def _faulty(self) -> Mapping[str, Any]:
        assert self.site.cloud is not None, "there is no filter"
        return self.site.cloud.targets


def run(stage: Stage, settings: Settings, wanted: Set[str]) -> Iterator[Figure]:
    body = random_bytes(stage.top / "several.raw", settings.several_targets_image)
    try:
        for name in NAMES:
            if name in wanted:
                with ExitStack() as stack:
                    yield _PAIRS[name](stage, stack, settings, body)
    finally:
        body.path.unlink()


def _ten_targets(stage: Stage, stack: ExitStack, settings: Settings, body: Body) -> Figure:
    what = "upload, 10 targets / 1 target"
    runs = _ten_and_one(stage, stack)
    return _pair("ten-targets", what, runs, settings, body, Goal(1.15))


def _ten_targets_line(stage: Stage, stack: ExitStack, settings: Settings, body: Body) -> Figure:
    what = f"upload, 10 targets / 1 target, the client at {settings.line}"
    runs = _ten_and_one(stage, stack, settings.line_curl)
    return _pair("ten-targets-line", what, runs, settings, body, Goal(1.15))


def _ten_and_one(
    stage: Stage, stack: ExitStack, curl: Sequence[str] = ()
) -> Mapping[str, Contender]:
    one = stack.enter_context(stage.filtered(1))
    # By default Glance lets an image have ten locations, and the primary's is one of them.
    options = {"DEFAULT": {"image_location_quota": "20"}}
    ten = stack.enter_context(stage.filtered(10, options=options))
    return {"10 targets": Ours(ten, curl), "1 target": Ours(one, curl)}


def _bad_targets(stage: Stage, stack: ExitStack, settings: Settings, body: Body) -> Figure:
    directory = stage.directory("bad")
    targets = {name: FaultyTarget(Nginx(directory / name)) for name in FAULTS}
    options = {"replication": QUICK_REPAIR}
    bad = stack.enter_context(stage.filtered(targets, options=options))
    runs = {"bad": OursWithFaults(bad), "healthy": Ours(stage.ours)}
    what = "upload, a dead, a hanging and a 100 KiB/s target / three healthy ones"
    return _pair("bad-targets", what, runs, settings, body, Goal(1.03))


def _tls(stage: Stage, stack: ExitStack, settings: Settings, body: Body) -> Figure:
    site = stack.enter_context(_tls_site(stage))
    runs = {"TLS": Ours(site), "plain": Ours(stage.ours)}
    return _pair("tls", "upload, targets with TLS / plain ones", runs, settings, body, Goal(1.10))


def _tls_site(stage: Stage) -> AbstractContextManager[Site]:
    directory = stage.directory("tls")
    authority = Authority(directory)
    names = [f"target-{number}" for number in range(TARGETS)]
    trust = str(authority.ca_file)
    return stage.filtered(
        {name: Nginx(directory / name, tls=authority.server(name)) for name in names},
        target_options={name: {"ca_file": trust} for name in names},
        options={"http": {"https_ca_certificates_file": trust}},
        server=OwnAuthority,
    )


def _pair(
    name: str, what: str, runs: Mapping[str, Contender], settings: Settings, body: Body, goal: Goal
) -> Figure:
    over, under = runs
    contenders = {key: functools.partial(told, key, each, body) for key, each in runs.items()}
    alternate(contenders, 1)
    samples = alternate(contenders, settings.rounds)
    uploads = {key: [each.upload for each in found] for key, found in samples.items()}
    cpu = medians({key: [each.usage for each in found] for key, found in samples.items()})
    notes = (f"an image of {body.size >> 20} MiB",)
    return compare(name, what, uploads, over, under, goal, cpu_seconds=cpu, notes=notes)


_PAIRS: Mapping[str, Callable[..., Any]] = {
    "ten-targets": _ten_targets,
    "ten-targets-line": _ten_targets_line,
    "bad-targets": _bad_targets,
    "tls": _tls,
}
