# SPDX-License-Identifier: Apache-2.0
"""The names of objects at targets: ``IMAGE.TARGET.UPLOAD.ATTEMPT``.

Every attempt has a name that no other attempt had, also not one whose row was lost. Names of
earlier releases, ``IMAGE.UPLOAD.ATTEMPT``, tell of no target.
"""

from __future__ import annotations

import dataclasses
import re

_HEX = "[0-9a-fA-F]"
_NAME = re.compile(
    rf"(?P<image_id>{_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}})"
    r"(?:\.(?P<target>[A-Za-z0-9][A-Za-z0-9._-]*))?"
    r"\.(?P<upload_id>[0-9a-f]{32})"
    r"\.(?P<attempt>[0-9]{1,18})"
)

RESERVED = "glance-repl-"
"""Begins the names of objects of ours that are no images."""

LONGEST_WITHOUT_TARGET = 36 + 1 + 1 + 32 + 1 + 18
"""The most characters of a name, those of the target left out."""

# What file systems and columns take, and what of it is left for drivers and servers to append
# while they write, such as .partial.
_LONGEST = 255
_APPENDED = 38

LONGEST_TARGET = _LONGEST - _APPENDED - LONGEST_WITHOUT_TARGET
"""The most characters of the name of a target."""


def without_object_names(text: str) -> str:
    """The text with ``OBJECT`` for each name: who knows a name may be able to read the object."""
    return _NAME.sub("OBJECT", text)


@dataclasses.dataclass(frozen=True)
class ObjectName:
    """The name of the object of one attempt.

    :ivar target: None in a name of an earlier release
    """

    image_id: str
    target: str | None
    upload_id: str
    attempt: int

    @classmethod
    def first(
        cls, image_id: str, target: str, upload_id: str, created_at_seconds: float
    ) -> ObjectName:
        """The name of the first attempt that a row makes.

        Attempts are counted from the millisecond in which the row was made, so that a row which is
        made again, as after a database was lost, repeats none.
        """
        return cls(image_id, target, upload_id, int(created_at_seconds * 1000))

    @classmethod
    def parse(cls, name: str) -> ObjectName | None:
        """What the name tells, None where it is not of our making."""
        found = _NAME.fullmatch(name)
        if found is None:
            return None
        return cls(found["image_id"], found["target"], found["upload_id"], int(found["attempt"]))

    def next(self) -> ObjectName:
        """The name of the attempt after this one."""
        return dataclasses.replace(self, attempt=self.attempt + 1)

    def may_be_at(self, target: str) -> bool:
        """Whether an object of this name at the target can be the target's own."""
        return self.target in (None, target)

    def __str__(self) -> str:
        parts = (self.image_id, self.target, self.upload_id, str(self.attempt))
        return ".".join(part for part in parts if part)


def upload_of(image_id: str, target: str, name: str | None) -> str | None:
    """The upload in the name of one of our objects of this image at this target, else None."""
    parsed = ObjectName.parse(name or "")
    if parsed is None or parsed.image_id != image_id or not parsed.may_be_at(target):
        return None
    return parsed.upload_id
