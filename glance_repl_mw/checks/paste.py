# SPDX-License-Identifier: Apache-2.0
"""The paste configuration, read without loading what it names."""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Mapping

from oslo_config import cfg

from glance_repl_mw import exceptions

OPTIONS = (cfg.StrOpt("flavor"), cfg.StrOpt("config_file"))
GROUP = "paste_deploy"

_SUFFIX = "-paste.ini"
_DEFAULT_NAME = f"glance-api{_SUFFIX}"
_APPLICATION_KINDS = ("composite", "composit", "app", "application", "pipeline")
_LOADED = ("egg:", "call:")
_OURS = re.compile(
    r"call:glance_repl_mw\.filter:.+|egg:glance[-_.]repl[-_.]mw#replication", re.IGNORECASE
)


class PasteFile:
    """The file that the pipelines of Glance are in.

    :raises ConfigError: it cannot be read
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        defaults = {"here": os.path.dirname(self.path), "__file__": self.path}
        self._parser = configparser.ConfigParser(defaults)
        self._parser.optionxform = str  # type: ignore[method-assign, assignment]
        try:
            with open(self.path) as file:
                self._parser.read_file(file)
            self._sections = {name: dict(self._parser[name]) for name in self._parser.sections()}
        except (OSError, UnicodeDecodeError) as problem:
            reason = getattr(problem, "strerror", None) or "is not a text file"
            raise self._problem(reason) from problem
        except configparser.Error as problem:
            raise self._problem(" ".join(str(problem).split())) from problem

    def pipeline(self, flavor: str | None) -> tuple[str, list[str]]:
        """The names in the pipeline of ``flavor``, and the section and option that hold them.

        :raises ConfigError: there is no such pipeline; Glance cannot start
        """
        name = f"glance-api-{flavor}" if flavor else "glance-api"
        section = self._application(name)
        if section is None:
            raise self._problem(f"has no section [composite:{name}]")
        if not section.startswith("pipeline:"):
            section = self._application(self._sections[section].get("/", ""))
            if section is None:
                raise self._problem(f"[composite:{name}] names no application for /")
        option = "pipeline" if section.startswith("pipeline:") else flavor or "default"
        words = self._sections[section].get(option, "").split()
        if not words:
            raise self._problem(f"[{section}] has no pipeline {option!r}")
        return f"[{section}] {option}", words

    def implementation(self, name: str) -> str:
        """What a filter's name stands for: ``call:MODULE:CALLABLE``, ``egg:...``, or empty."""
        seen: set[str] = set()
        while name not in seen:
            seen.add(name)
            if name.startswith(_LOADED):
                return name
            settings = self.settings(name)
            factory = settings.get("paste.filter_factory")
            if factory:
                return f"call:{factory.strip()}"
            name = settings.get("use", name).strip()
        return ""

    def settings(self, name: str) -> Mapping[str, str]:
        """The options of a filter's section, with those of ``[DEFAULT]``."""
        return self._sections.get(f"filter:{name}", {})

    def is_replication(self, name: str) -> bool:
        """Whether a name in a pipeline stands for this project's filter."""
        return _OURS.fullmatch(self.implementation(name)) is not None

    def has_replication(self) -> bool:
        """Whether there is a section for this project's filter, used or not."""
        names = (name.removeprefix("filter:") for name in self._sections)
        return any(self.is_replication(name) for name in names)

    def _application(self, name: str) -> str | None:
        sections = (f"{kind}:{name}" for kind in _APPLICATION_KINDS)
        return next((section for section in sections if section in self._sections), None)

    def _problem(self, hint: str) -> exceptions.ConfigError:
        return exceptions.ConfigError(operation=self.path, hint=hint)


def find(conf: cfg.ConfigOpts) -> str | None:
    """The path of the paste configuration that Glance loads with this configuration."""
    named = conf.paste_deploy.config_file
    if named:
        return named if os.path.isfile(named) else conf.find_file(named) or named
    names = [_DEFAULT_NAME]
    if conf.config_file:
        names.insert(0, os.path.basename(conf.config_file[-1]).replace(".conf", _SUFFIX))
    return next(filter(None, map(conf.find_file, names)), None)
