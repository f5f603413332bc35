# SPDX-License-Identifier: Apache-2.0
"""That the spooled bytes of one upload are the bytes that Glance has."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

from glance_repl_mw import content, exceptions
from glance_repl_mw.model import Image
from glance_repl_mw.spool.upload import Upload
from glance_repl_mw.writer import work
from glance_repl_mw.writer.crew import Crew
from glance_repl_mw.writer.hasher import Digest

# Glance's own default, for the case that this node cannot compute what is configured.
_ALGORITHM = "sha512"


class Proof:
    """Hashes an upload while it grows, then asks Glance; every method is the main loop's.

    :ivar is_given: Glance has these bytes
    :ivar checksum: their md5 as Glance has it, once it is given
    :ivar locations: those of the image when it was given
    :param on_outcome: called with None when it is proven, else with the error of the attempt
    :raises FileNotFoundError: the spool file is gone
    """

    def __init__(
        self, crew: Crew, upload_id: str, on_outcome: Callable[[BaseException | None], None]
    ) -> None:
        self.is_given = False
        self.checksum: str | None = None
        self.locations: tuple[str, ...] = ()
        self._crew = crew
        self._on_outcome = on_outcome
        self._path = crew.spool.data_path(upload_id)
        self._upload: Upload | None = None
        self._os_hash_value: str | None = None
        self._failures = 0
        self._retry_at: float | None = None
        self._without_data_since: float | None = None
        algorithm = crew.conf.hashing_algorithm
        self._algorithm = algorithm if content.is_known(algorithm) else _ALGORITHM
        self._digest: Digest | None = crew.hasher.follow(self._path, self._algorithm)

    @property
    def digest(self) -> tuple[str, str] | None:
        """The algorithm and the hash of the spooled bytes, None where they were not hashed."""
        return (self._algorithm, self._os_hash_value) if self._os_hash_value else None

    @property
    def is_hashing(self) -> bool:
        """Whether the hasher still follows the file."""
        return self._digest is not None

    def is_without_data_for(self, seconds: float) -> bool:
        """Whether Glance told so long ago that it has not the image's data, and never since."""
        since = self._without_data_since
        return since is not None and time.monotonic() - since >= seconds

    def conclude(self, upload: Upload) -> None:
        """Glance has accepted the upload: hash the rest and compare."""
        assert self._digest is not None
        self._upload = upload
        self._crew.hasher.finish(
            self._digest,
            lambda digest: self._crew.events.put(functools.partial(self._hashed, digest)),
        )

    def retry_later(self) -> None:
        """Ask Glance again after a pause that grows from time to time."""
        self._failures += 1
        self._retry_at = time.monotonic() + self._crew.pause_seconds(self._failures)

    def tick(self) -> None:
        """Ask again if it is time."""
        if self._retry_at is not None and time.monotonic() >= self._retry_at:
            self._retry_at = None
            self._ask()

    def drop(self) -> None:
        """The upload is over: hash no further."""
        if self._digest is not None:
            self._crew.hasher.drop(self._digest)
            self._digest = None
        self._retry_at = None

    def _hashed(self, os_hash_value: str | None) -> None:
        if self._digest is not None:
            self._digest, self._os_hash_value = None, os_hash_value
            self._ask()

    def _ask(self) -> None:
        assert self._upload is not None
        hashed = {self._algorithm: self._os_hash_value}
        self._crew.at_glance(
            functools.partial(work.prove, self._crew.images, self._upload, hashed, self._path),
            self._answered,
        )

    def _answered(self, image: Image | None, error: BaseException | None) -> None:
        self.is_given = image is not None
        if isinstance(error, exceptions.ImageNotActive) and self._without_data_since is None:
            self._without_data_since = time.monotonic()
        if image is not None:
            self.checksum, self.locations = image.checksum, image.locations
        self._on_outcome(error)
