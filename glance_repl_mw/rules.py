# SPDX-License-Identifier: Apache-2.0
"""The rules of ``replicate_if``: which images a target is to have.

They are written as the rules of a policy file, and oslo.policy parses them; what is left to do
here is to compare an image with the conditions.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib import parse

from oslo_policy import policy
from oslo_utils import strutils

from glance_repl_mw.model import Image

# Whether a condition holds, None where that is not known yet.
_Test = Callable[[Image], bool | None]

_FIELDS = ("visibility", "owner", "container_format", "disk_format")
_VISIBILITIES = ("public", "community", "shared", "private")
_SIZE = re.compile(r"(<=|>=|<|>)(\d+(?:\.\d+)?(?:[kKMGT]i?B|B)?)")
_COMPARISONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_SIZE_HELP = "is not of the form size:<=20GiB; there are <, <=, >, >=, kB to TB and KiB to TiB"


class Rule:
    """Conditions joined with ``and``, ``or``, ``not`` and brackets; without any, it always holds.

    :raises ValueError: the text is none
    """

    def __init__(self, text: str) -> None:
        self._check: Any = policy.RuleDefault("replicate_if", text.strip()).check
        leaves = list(_leaves(self._check)) if text.strip() else []
        if not all(isinstance(leaf, policy.Check) for leaf in leaves):
            raise ValueError(f"{text!r} is not of the form CONDITION and CONDITION or CONDITION")
        self._tests: dict[str, _Test] = {str(leaf): _test(leaf) for leaf in leaves}

    @property
    def conditions(self) -> list[tuple[str, str]]:
        """Kind and value of each condition."""
        pairs = (condition.split(":", 1) for condition in self._tests)
        return [(kind, parse.unquote(value)) for kind, value in pairs]

    def holds(self, image: Image) -> bool | None:
        """Whether it holds for the image, None where that depends on the size that is unknown."""
        return self._holds(self._check, image)

    def failing(self, image: Image) -> str:
        """The first part that does not hold for the image, as it is written."""
        check = self._check
        while isinstance(check, policy.AndCheck):
            check = next(each for each in check.rules if self._holds(each, image) is False)
        return str(check)

    def _holds(self, check: Any, image: Image) -> bool | None:
        if isinstance(check, policy.NotCheck):
            return _negated(self._holds(check.rule, image))
        if isinstance(check, policy.AndCheck):
            return _all(self._holds(each, image) for each in check.rules)
        if isinstance(check, policy.OrCheck):
            return _negated(_all(_negated(self._holds(each, image)) for each in check.rules))
        return self._tests[str(check)](image) if self._tests else True


def _negated(answer: bool | None) -> bool | None:
    return None if answer is None else not answer


def _all(answers: Iterable[bool | None]) -> bool | None:
    known = list(answers)
    if False in known:
        return False
    return None if None in known else True


def _leaves(check: Any) -> Iterator[Any]:
    if isinstance(check, policy.NotCheck):
        yield from _leaves(check.rule)
    elif isinstance(check, policy.AndCheck | policy.OrCheck):
        for each in check.rules:
            yield from _leaves(each)
    else:
        yield check


def _test(leaf: policy.Check) -> _Test:
    """What one condition asks of an image.

    :raises ValueError: there is no such condition
    """
    kind, value = leaf.kind, parse.unquote(leaf.match)
    if kind == "size":
        return _size_test(value)
    if kind == "visibility" and value not in _VISIBILITIES:
        raise ValueError(f"{leaf} is none of {', '.join(_VISIBILITIES)}")
    if not value:
        raise ValueError(f"{leaf} names no value")
    if kind in _FIELDS:
        return lambda image: getattr(image, kind) == value
    if kind == "tag":
        return lambda image: value in image.tags
    if kind == "property":
        return _property_test(value)
    known = ", ".join((*_FIELDS, "size", "tag", "property"))
    raise ValueError(f"{leaf} names none of {known}")


def _property_test(value: str) -> _Test:
    name, has_value, wanted = value.partition("=")
    if has_value:
        return lambda image: image.properties.get(name) == wanted
    return lambda image: name in image.properties


def _size_test(value: str) -> _Test:
    match = _SIZE.fullmatch(value)
    if match is None:
        raise ValueError(f"size:{value} {_SIZE_HELP}")
    sign, text = match.groups()
    number = strutils.string_to_bytes(
        text if text.endswith("B") else f"{text}B", "mixed", return_int=True
    )

    compare = _COMPARISONS[sign]
    return lambda image: None if image.size is None else compare(image.size, number)
