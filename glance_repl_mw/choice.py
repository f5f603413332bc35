# SPDX-License-Identifier: Apache-2.0
"""Decides which targets are to have an image."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from oslo_config import cfg

from glance_repl_mw.foreign_text import printable
from glance_repl_mw.model import Image
from glance_repl_mw.rules import Rule
from glance_repl_mw.targets.base import Target

PROPERTY = "replication_targets"
_ALL, _NONE = "all", "none"
_NOT_NAMED = f"the image's {PROPERTY} does not name it"
_LAZY = "its mode is lazy: it gets what is asked for"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a target is to have an image.

    :ivar wanted: None where that depends on the image's size, which is not known yet
    :ivar why: what decided it
    """

    wanted: bool | None
    why: str


class Choice:
    """What ``mode``, ``replicate_if`` and the image itself say; may be used from any thread.

    What is the same for all images, such as that a target is drained, is for the caller to see.

    :ivar eager: the targets that are to have every image, where nothing depends on the image
    :ivar depends_on_image: else
    """

    def __init__(self, conf: cfg.ConfigOpts, targets: Mapping[str, Target]) -> None:
        self._lazy = {name for name, target in targets.items() if target.conf.mode == "lazy"}
        self._rules = {name: Rule(target.conf.replicate_if) for name, target in targets.items()}
        self._obeys_property = conf.replication.image_property_targets
        self.eager = [name for name in targets if name not in self._lazy]
        self.depends_on_image = self._obeys_property or any(
            rule.conditions for rule in self._rules.values()
        )

    def verdict(self, image: Image, target: str, *, on_demand: bool = False) -> Verdict:
        """Whether the target is to have the image.

        :param on_demand: somebody asks for it, so that the target need not be eager
        """
        named = self._named(image)
        if named is not None and target not in named:
            return Verdict(False, _NOT_NAMED)
        if named is None and target in self._lazy and not on_demand:
            return Verdict(False, _LAZY)
        objection = self.objection(image, target)
        if objection is not None:
            return Verdict(False, objection)
        rule = self._rules[target]
        if rule.holds(image) is None:
            return Verdict(None, "replicate_if depends on the size, which is not known yet")
        reason = f"its mode is {'lazy' if target in self._lazy else 'eager'}"
        if named is not None:
            reason = f"the image's {PROPERTY} names it"
        return Verdict(True, f"{reason}, replicate_if holds" if rule.conditions else reason)

    def objection(self, image: Image, target: str) -> str | None:
        """What keeps the target from having the image, whoever asks for it."""
        rule = self._rules[target]
        if rule.holds(image) is not False:
            return None
        return f"replicate_if: {rule.failing(image)} does not hold"

    def is_lazy(self, target: str) -> bool:
        return target in self._lazy

    def remarks(self, image: Image) -> Sequence[str]:
        """What is odd about the targets that the image names."""
        words = _words(image)
        if words and not self._obeys_property:
            return [f"its {PROPERTY} is ignored, as image_property_targets is off"]
        unknown = sorted(words - set(self._rules) - {_ALL, _NONE})
        names = printable(", ".join(unknown))
        return [f"its {PROPERTY} names unknown targets: {names}"] if unknown else []

    def _named(self, image: Image) -> set[str] | None:
        """The targets that the image names, None where that is left to their options."""
        words = _words(image) if self._obeys_property else set()
        if not words:
            return None
        return set(self._rules) if _ALL in words else words - {_NONE}


def _words(image: Image) -> set[str]:
    words = image.properties.get(PROPERTY, "").split(",")
    return {word.strip() for word in words} - {""}
