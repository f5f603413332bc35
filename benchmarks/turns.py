# SPDX-License-Identifier: Apache-2.0
"""Lets contenders take turns, so that the machine's noise meets all of them."""

from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")


def alternate(contenders: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Call each contender once in every round; every other round has the order turned around."""
    results: dict[str, list[T]] = {name: [] for name in contenders}
    for number in range(rounds):
        order = list(contenders)
        for name in order if number % 2 == 0 else reversed(order):
            results[name].append(contenders[name]())
    return results
