"""That the spooled bytes of one upload are the bytes that Glance has."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping

from glance_repl_mw.spool.upload import Upload
from glance_repl_mw.writer import work
from glance_repl_mw.writer.crew import Crew
from glance_repl_mw.writer.hasher import CHECKSUM_ALGORITHM, Digest


class Proof:
    """Hashes an upload while it grows, then asks Glance; every method is the main loop's.

    :param on_outcome: called with None when it is proven, else with the error of the attempt
    :raises FileNotFoundError: the spool file is gone
    """

    def __init__(
        self, crew: Crew, upload_id: str, on_outcome: Callable[[BaseException | None], None]
    ) -> None:
        self.is_given = False
        self._crew = crew
        self._on_outcome = on_outcome
        self._path = crew.spool.data_path(upload_id)
        self._upload: Upload | None = None
        self._digests: Mapping[str, str] = {}
        self._failures = 0
        self._retry_at: float | None = None
        self._digest: Digest | None = crew.hasher.follow(self._path, crew.conf.hashing_algorithm)

    @property
    def checksum(self) -> str | None:
        """The md5 of the spooled bytes, once all are hashed."""
        return self._digests.get(CHECKSUM_ALGORITHM)

    @property
    def is_hashing(self) -> bool:
        """Whether the hasher still follows the file."""
        return self._digest is not None

    def conclude(self, upload: Upload) -> None:
        """Glance has accepted the upload: hash the rest and compare."""
        assert self._digest is not None
        self._upload = upload
        self._crew.hasher.finish(
            self._digest,
            lambda digests: self._crew.events.put(functools.partial(self._hashed, digests)),
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

    def _hashed(self, digests: Mapping[str, str]) -> None:
        if self._digest is not None:
            self._digest, self._digests = None, digests
            self._ask()

    def _ask(self) -> None:
        assert self._upload is not None
        self._crew.at_glance(
            functools.partial(
                work.prove, self._crew.images, self._upload, self._digests, self._path
            ),
            self._answered,
        )

    def _answered(self, _: None, error: BaseException | None) -> None:
        self.is_given = error is None
        self._on_outcome(error)
