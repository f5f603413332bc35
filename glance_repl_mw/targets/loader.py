# SPDX-License-Identifier: Apache-2.0
"""From ``enabled_targets`` to driver objects."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import stevedore
from oslo_config import cfg
from stevedore.exception import NoMatches

from glance_repl_mw import exceptions, opts, values
from glance_repl_mw.replicas.name import LONGEST_TARGET
from glance_repl_mw.rules import Rule
from glance_repl_mw.targets.base import Target
from glance_repl_mw.targets.opts import TARGET_OPTIONS

NAMESPACE = "glance_repl_mw.targets"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHOWN_CHARACTERS = 40


def section(name: str) -> str:
    """The configuration section of a target."""
    return f"{opts.GROUP}:{name}"


def load_targets(conf: cfg.ConfigOpts) -> dict[str, Target]:
    """The configured targets by name, in the order of ``enabled_targets``.

    Opens no connection.

    :raises ConfigError: names the section and the option that is missing or wrong
    """
    targets, problems = load_singly(conf)
    if problems:
        raise problems[0]
    return targets


def load_singly(conf: cfg.ConfigOpts) -> tuple[dict[str, Target], list[exceptions.ConfigError]]:
    """The targets that are configured well, as by ``load_targets``, and what is wrong with others.

    Of targets that share a place, none is configured well.
    """
    targets: dict[str, Target] = {}
    problems: list[exceptions.ConfigError] = []
    names: set[str] = set()
    for entry in conf.replication.enabled_targets:
        try:
            name, driver = _parsed(entry)
            if name in names:
                raise _wrong("enabled_targets", f"target {name!r} is named twice")
            names.add(name)
            targets[name] = _load(conf, name, driver)
        except exceptions.ConfigError as problem:
            problems.append(problem)
    for one, other in list(_sharing(targets.values())):
        problems.append(_share_a_place(one, other))
        for each in (one, other):
            targets.pop(each.name, None)
    return targets, problems


def _sharing(targets: Iterable[Target]) -> Iterator[tuple[Target, Target]]:
    """Pairs of targets that have a place in common."""
    for one, other in itertools.combinations(targets, 2):
        if set(one.places) & set(other.places):
            yield one, other


def _share_a_place(one: Target, other: Target) -> exceptions.ConfigError:
    return exceptions.ConfigError(
        target=other.name,
        operation="read configuration",
        hint=f"[{section(other.name)}] url: leads to the same place as that of "
        f"[{section(one.name)}]; each target needs a collection of its own",
    )


def check_values(conf: cfg.ConfigOpts) -> None:
    """See that every option of ``[replication]`` has a value that can be worked with.

    Those of a plugin of keystoneauth are seen to where it is loaded.

    :raises ConfigError: names the section and the option
    """
    values.require_right_values(conf, opts.GROUP, opts.SECTION_OPTIONS)


def check_local_target(conf: cfg.ConfigOpts, targets: Collection[str]) -> None:
    """See that ``local_target`` names one of these targets, or none at all.

    :raises ConfigError:
    """
    name = conf.replication.local_target
    if name and name not in targets:
        raise _wrong("local_target", f"{name!r} is not in enabled_targets")


def _parsed(entry: str) -> tuple[str, str]:
    """Name and driver of an entry of ``enabled_targets``.

    :raises ConfigError:
    """
    name, separator, driver = entry.partition(":")
    if not separator or not driver or not _NAME.fullmatch(name):
        raise _wrong("enabled_targets", f"{entry!r} is not of the form NAME:DRIVER")
    if len(name) > LONGEST_TARGET:
        hint = f"has {len(name)} characters; give it one of at most {LONGEST_TARGET}"
        raise _wrong("enabled_targets", f"the name {name[:_SHOWN_CHARACTERS]}... {hint}")
    return name, driver


def _load(conf: cfg.ConfigOpts, name: str, driver: str) -> Target:
    group = section(name)
    driver_class = _driver_class(name, driver)
    if group not in conf.list_all_sections():
        raise exceptions.ConfigError(
            target=name,
            operation="read configuration",
            hint=f"the section [{group}] is missing",
        )
    options = [*TARGET_OPTIONS, *driver_class.options]
    conf.register_opts(options, group=group)
    values.require_right_values(conf, group, options)
    try:
        _check_rule(conf[group].replicate_if)
        target: Target = driver_class(name, conf[group])
    except ValueError as error:
        raise exceptions.ConfigError(
            target=name, operation="read configuration", hint=f"[{group}] {error}"
        ) from error
    return target


def _check_rule(text: str) -> None:
    try:
        Rule(text)
    except ValueError as error:
        raise ValueError(f"replicate_if: {error}") from error


def _driver_class(name: str, driver: str) -> Any:
    try:
        manager: stevedore.DriverManager[Any] = stevedore.DriverManager(NAMESPACE, driver)
    except NoMatches:
        known = ", ".join(sorted(stevedore.ExtensionManager(NAMESPACE).names()))
        raise _wrong(
            "enabled_targets", f"target {name!r}: no driver {driver!r} (there are: {known})"
        ) from None
    return manager.driver


def _wrong(option: str, hint: str) -> exceptions.ConfigError:
    return exceptions.ConfigError(
        operation="read configuration", hint=f"[{opts.GROUP}] {option}: {hint}"
    )


def list_opts() -> Sequence[tuple[str, Sequence[cfg.Opt]]]:
    """For oslo-config-generator: a sample section for each driver that is installed."""
    installed: stevedore.ExtensionManager[Any] = stevedore.ExtensionManager(NAMESPACE)
    return [
        (section(f"a-{driver.name}-target"), [*TARGET_OPTIONS, *driver.plugin.options])
        for driver in sorted(installed, key=lambda driver: driver.name)
    ]
