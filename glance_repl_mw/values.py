# SPDX-License-Identifier: Apache-2.0
"""Has every option of a section a value that can be worked with?"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

from oslo_config import cfg

from glance_repl_mw import exceptions, substitution


@dataclasses.dataclass(frozen=True)
class WrongValue:
    """An option that cannot be worked with.

    :ivar reason: what is wrong with its value, or what the value must be
    """

    section: str
    option: str
    reason: str

    def __str__(self) -> str:
        return f"[{self.section}] {self.option}: {self.reason}"


def wrong_values(
    conf: cfg.ConfigOpts, section: str, options: Sequence[cfg.Opt]
) -> Iterator[WrongValue]:
    """Read these options now: oslo.config complains about a value only when it is used."""
    for option in options:
        if reason := _reason(conf, section, option):
            yield WrongValue(section, option.dest, reason)


def require_right_values(conf: cfg.ConfigOpts, section: str, options: Sequence[cfg.Opt]) -> None:
    """See that all of these options can be worked with.

    :raises ConfigError: names the section, the first option that cannot, and why
    """
    for wrong in wrong_values(conf, section, options):
        raise exceptions.ConfigError(operation="read configuration", hint=str(wrong))


def _reason(conf: cfg.ConfigOpts, section: str, option: cfg.Opt) -> str:
    try:
        value = conf[section][option.dest]
    except (cfg.Error, ValueError) as error:
        return substitution.reason(error)
    if value is None and option.default is not None:
        return f"is empty; give a value, or take the line out for {option.default}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"must be a finite number, and is {value}"
    return ""
