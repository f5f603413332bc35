# SPDX-License-Identifier: Apache-2.0
"""What proves that bytes are those of an image: the one place that knows Glance's hashes."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from typing import TYPE_CHECKING

from glance_repl_mw.model import Image

if TYPE_CHECKING:
    import io
    from _hashlib import HASH

_BY_CHECKSUM = "md5"


@functools.cache
def is_known(algorithm: str) -> bool:
    """Whether this Python can hash so, to a digest of a fixed length, which shake_128 has not."""
    try:
        return hashlib.new(algorithm, usedforsecurity=False).digest_size > 0
    except (ValueError, TypeError):
        return False


@dataclasses.dataclass(frozen=True)
class ImageDigest:
    """The strongest hash of an image that can be computed here.

    That is its ``os_hash_value``, else its ``checksum``. Where it has neither, every digest
    matches, and its size alone tells its bytes from others.

    :ivar algorithm: as hashlib names it
    :ivar value: the digest as a hex string in lower case, None where there is none
    """

    algorithm: str
    value: str | None

    @classmethod
    def of(cls, image: Image) -> ImageDigest:
        """What Glance's record says."""
        if image.os_hash_algo and image.os_hash_value and is_known(image.os_hash_algo):
            return cls(image.os_hash_algo, image.os_hash_value.lower())
        return cls(_BY_CHECKSUM, image.checksum.lower() if image.checksum else None)

    @property
    def is_weak(self) -> bool:
        """Whether there is nothing to compare but the size."""
        return self.value is None

    def hasher(self) -> HASH:
        """A new hash object; its ``hexdigest`` is what ``matches`` takes."""
        return hashlib.new(self.algorithm, usedforsecurity=False)

    def of_file(self, file: io.BufferedReader) -> str:
        """The hex digest of all that can be read from an open file.

        :raises OSError:
        """
        return hashlib.file_digest(file, self.hasher).hexdigest()

    def matches(self, hexdigest: str) -> bool:
        """Whether bytes with this digest may be those of the image."""
        return self.value is None or hexdigest.lower() == self.value
