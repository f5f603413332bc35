"""From ``enabled_targets`` to driver objects."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import stevedore
from oslo_config import cfg
from stevedore.exception import NoMatches

from glance_repl_mw import exceptions, opts, values
from glance_repl_mw.rules import Rule
from glance_repl_mw.targets.base import Target
from glance_repl_mw.targets.opts import TARGET_OPTIONS

NAMESPACE = "glance_repl_mw.targets"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def section(name: str) -> str:
    """The configuration section of a target."""
    return f"{opts.GROUP}:{name}"


def load_targets(conf: cfg.ConfigOpts) -> dict[str, Target]:
    """The configured targets by name, in the order of ``enabled_targets``.

    Opens no connection.

    :raises ConfigError: names the section and the option that is missing or wrong
    """
    targets: dict[str, Target] = {}
    for name, driver in _enabled(conf.replication.enabled_targets):
        if name in targets:
            raise _wrong("enabled_targets", f"target {name!r} is named twice")
        targets[name] = _load(conf, name, driver)
        _check_place(targets, targets[name])
    return targets


def _check_place(targets: Mapping[str, Target], target: Target) -> None:
    """See that the target shares its place with no other one.

    :raises ConfigError:
    """
    for other in targets.values():
        if other is not target and set(other.places) & set(target.places):
            raise exceptions.ConfigError(
                target=target.name,
                operation="read configuration",
                hint=f"[{section(target.name)}] url: leads to the same place as that of "
                f"[{section(other.name)}]; each target needs a collection of its own",
            )


def check_values(conf: cfg.ConfigOpts) -> None:
    """See that every option of ``[replication]`` has a value that can be worked with.

    Those of a plugin of keystoneauth are seen to where it is loaded.

    :raises ConfigError: names the section and the option
    """
    values.require_right_values(conf, opts.GROUP, [*opts.OPTIONS, *opts.KEYSTONE_OPTIONS])


def check_local_target(conf: cfg.ConfigOpts, targets: Collection[str]) -> None:
    """See that ``local_target`` names one of these targets, or none at all.

    :raises ConfigError:
    """
    name = conf.replication.local_target
    if name and name not in targets:
        raise _wrong("local_target", f"{name!r} is not in enabled_targets")


def _enabled(entries: Sequence[str]) -> list[tuple[str, str]]:
    pairs = []
    for entry in entries:
        name, separator, driver = entry.partition(":")
        if not separator or not driver or not _NAME.fullmatch(name):
            raise _wrong("enabled_targets", f"{entry!r} is not of the form NAME:DRIVER")
        pairs.append((name, driver))
    return pairs


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
        return driver_class(name, conf[group])
    except ValueError as error:
        raise exceptions.ConfigError(
            target=name, operation="read configuration", hint=f"[{group}] {error}"
        ) from error


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
