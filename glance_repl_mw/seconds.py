# SPDX-License-Identifier: Apache-2.0
"""Options that are a number of seconds, and how many there may be."""

from __future__ import annotations

import math
from typing import Any

from oslo_config import cfg, types

LONGEST_SECONDS = 10 * 365 * 24 * 3600
"""Ten years: as good as never, and clocks, dates and waits still count so far."""

LONGEST_TIMEOUT_SECONDS = 7 * 24 * 3600
"""A week: sockets count their timeouts in milliseconds, and not as far as a month."""

_SHOWN_CHARACTERS = 40


class SecondsOpt(cfg.Opt):
    """A finite number of seconds from ``min`` to ``max``; the sample shows both.

    :param whole: without a fraction
    """

    def __init__(
        self,
        name: str,
        *,
        min: float,
        max: int = LONGEST_SECONDS,
        whole: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, type=Seconds(min, max, whole), **kwargs)


class Seconds(types.Number):
    """The type of such an option; an empty value is none at all."""

    def __init__(self, min: float, max: int, whole: bool = False) -> None:
        kind, name = (int, "integer value") if whole else (float, "floating point value")
        super().__init__(kind, name, min, max)

    def __call__(self, value: Any) -> int | float | None:
        """:raises ValueError: says what the value must be, and what it is"""
        try:
            seconds = super().__call__(value)
        except ValueError:
            raise self._wrong(value) from None
        if seconds is not None and not math.isfinite(seconds):
            raise self._wrong(value)
        return seconds

    def _wrong(self, value: Any) -> ValueError:
        kind = "whole number" if self.num_type is int else "number"
        shown = repr(value)[:_SHOWN_CHARACTERS]
        return ValueError(
            f"must be a {kind} of seconds from {self.min} to {self.max}, and is {shown}"
        )
