# SPDX-License-Identifier: Apache-2.0
"""Has every option of replication a value that is right, and is each one that somebody reads?"""

from __future__ import annotations

import difflib
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import stevedore
from keystoneauth1 import loading
from oslo_config import cfg, iniparser

from glance_repl_mw import opts, substitution
from glance_repl_mw.checks import leaving, secrecy
from glance_repl_mw.checks.deployment import Deployment
from glance_repl_mw.checks.finding import Finding, error, note, warning
from glance_repl_mw.targets import loader
from glance_repl_mw.targets.opts import TARGET_OPTIONS
from glance_repl_mw.values import wrong_values

_PREFIX = loader.section("")
_ANY_PLUGIN = ("password", "v3password", "v3token", "v3applicationcredential", "none")
_SIMILAR = 0.8
_CORRECT = "correct the value; Glance does not start before"

# What is written in the files: values by option by section.
_Written = Mapping[str, Mapping[str, Sequence[str]]]


def check_values(deployment: Deployment) -> Iterator[Finding]:
    """Every value with which Glance does not start, but for those that only a driver knows."""
    conf = deployment.replication
    yield from _wrong(conf, opts.GROUP, opts.SECTION_OPTIONS)
    for name, driver in leaving.configured(conf).items():
        section = loader.section(name)
        options = _target_options(driver)
        if options and section in conf.list_all_sections():
            conf.register_opts(options, group=section)
            yield from _wrong(conf, section, options)


def _wrong(conf: cfg.ConfigOpts, section: str, options: Sequence[cfg.Opt]) -> Iterator[Finding]:
    for wrong in wrong_values(conf, section, options):
        yield error(f"[{section}] {wrong.option}", wrong.reason, _CORRECT)


def check(deployment: Deployment) -> Iterator[Finding]:
    """Options and sections that are misspelt, and values in which a ``$`` was replaced."""
    conf = deployment.replication
    written = _read(conf)
    drivers = leaving.configured(conf)
    for section, values in written.items():
        if section == opts.GROUP:
            yield from _judge(conf, section, values, _own_options(conf))
        elif section.startswith(_PREFIX):
            name = section.removeprefix(_PREFIX)
            if name not in drivers and values:
                yield _not_enabled(section, name, drivers)
            if (options := _target_options(drivers.get(name))) is not None:
                yield from _judge(conf, section, values, options)
        elif values and _is_meant_for_us(section):
            remedy = f"write [{opts.GROUP}], or [{_PREFIX}NAME] for a target"
            yield warning(f"[{section}]", "is a section that nobody reads", remedy)


def _read(conf: cfg.ConfigOpts) -> _Written:
    """What the configuration files hold; those that cannot be read are left out."""
    sections: dict[str, dict[str, Any]] = {}
    for path in _files(conf):
        try:
            cfg.ConfigParser(str(path), sections).parse()
        except (OSError, ValueError, iniparser.ParseError):
            continue
    return sections


def _files(conf: cfg.ConfigOpts) -> Iterator[pathlib.Path]:
    yield from map(pathlib.Path, _listed(conf.config_file))
    for directory in _listed(conf.config_dir):
        yield from sorted(pathlib.Path(directory).glob("*.conf"))


def _listed(value: str | list[str] | None) -> Sequence[str]:
    return [value] if isinstance(value, str) else value or ()


def _own_options(conf: cfg.ConfigOpts) -> list[cfg.Opt]:
    plugin = secrecy.service_user_options(conf)[1]
    kinds = () if plugin and conf[opts.GROUP].auth_type else _ANY_PLUGIN
    return [
        *dict(opts.list_opts())[opts.GROUP],
        *plugin,
        *(each for kind in kinds for each in loading.get_auth_plugin_conf_options(kind)),
    ]


def _target_options(driver: str | None) -> list[cfg.Opt] | None:
    """The options of a target, for any driver where it is not known; None where that is wrong."""
    extensions: stevedore.ExtensionManager[Any] = stevedore.ExtensionManager(loader.NAMESPACE)
    plugins = {each.name: each.plugin for each in extensions}
    if driver is not None and driver not in plugins:
        return None
    chosen = plugins.values() if driver is None else [plugins[driver]]
    return [*TARGET_OPTIONS, *(option for plugin in chosen for option in plugin.options)]


def _judge(
    conf: cfg.ConfigOpts,
    section: str,
    values: Mapping[str, Sequence[str]],
    options: Iterable[cfg.Opt],
) -> Iterator[Finding]:
    known = {name: option for option in options for name in _names(option)}
    for name, written in values.items():
        option = known.get(name.replace("-", "_"))
        if option is None:
            yield _unknown(f"[{section}] {name}", name, known)
        elif _is_replaced(conf, section, option, written):
            text = "holds a $, and what follows it is replaced by the value of another option"
            yield warning(f"[{section}] {name}", text, "write $$ for a $ that is meant as such")


def _is_replaced(
    conf: cfg.ConfigOpts, section: str, option: cfg.Opt, written: Iterable[str]
) -> bool:
    """Whether a secret has another value than is written; one that has none is an error."""
    is_meant = option.secret and any(map(substitution.is_in, written))
    return is_meant and not any(wrong_values(conf, section, [option]))


def _names(option: cfg.Opt) -> Iterator[str]:
    """All names by which a file may give the option."""
    yield option.dest
    yield option.name.replace("-", "_")
    for old in option.deprecated_opts:
        if old.name:
            yield old.name.replace("-", "_")


def _unknown(where: str, name: str, known: Iterable[str]) -> Finding:
    nearest = difflib.get_close_matches(name.replace("-", "_"), sorted(known), n=1)
    remedy = f"did you mean {nearest[0]}?" if nearest else "take it out"
    return warning(where, "is unknown, and nobody reads it", remedy)


def _not_enabled(section: str, name: str, enabled: Iterable[str]) -> Finding:
    nearest = difflib.get_close_matches(name, sorted(enabled), n=1)
    meant = f"; did you mean {_PREFIX}{nearest[0]}?" if nearest else ""
    return note(f"[{section}]", f"is not read: {name} is not in enabled_targets{meant}")


def _is_meant_for_us(section: str) -> bool:
    head = section.partition(":")[0].strip().lower()
    return difflib.SequenceMatcher(None, head, opts.GROUP).ratio() >= _SIMILAR
