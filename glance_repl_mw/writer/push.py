"""The way of one upload to one target."""

from __future__ import annotations

import hashlib
import pathlib

from oslo_log import log

from glance_repl_mw import exceptions
from glance_repl_mw.db.store import ReplicaStore
from glance_repl_mw.model import ENDED, Replica, ReplicaStatus, Stored
from glance_repl_mw.pace import Pace
from glance_repl_mw.spool.reader import Gate, SpoolReader
from glance_repl_mw.spool.upload import Upload
from glance_repl_mw.targets.base import Target

LOG = log.getLogger(__name__)

_KEPT_AT_START = (ReplicaStatus.STORED, *ENDED)
# So many attempts back, a body may still be under way.
_LATE_ATTEMPTS = 8


class Push:
    """Where the upload stands at the target; ``put`` and ``confirm`` run in the target's pool.

    The rest belongs to the main loop. What an earlier writer left under way begins again.

    :param row: what the database knows
    :param pace: what all pushes to the target keep to
    :param is_shared: other nodes may take the row over
    :ivar running: ``put`` or ``confirm`` is under way
    :ivar may_register: the location may be asked for now
    :ivar is_doubted: the object may be there no more: Glance refuses it, or an earlier writer
        made it
    :ivar is_yielded: another node has taken the replica over
    :ivar retry_at: when to try again what has failed, by ``time.monotonic``
    """

    def __init__(
        self, target: Target, row: Replica, pace: Pace, *, is_shared: bool = False
    ) -> None:
        kept = row.status in _KEPT_AT_START
        self.target = target
        self._pace = pace
        self._is_shared = is_shared
        self.status = row.status if kept else ReplicaStatus.PENDING
        self.attempts = row.attempts
        self.object_name = row.object_name
        self.location_url = row.location_url or ""
        self.running = False
        self.may_register = True
        self.is_doubted = False
        self.is_yielded = False
        self.retry_at: float | None = None
        self._reader: SpoolReader | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing is left to do for this upload at the target."""
        return self.status in ENDED

    @property
    def is_ready_for_location(self) -> bool:
        """Whether it is stored, and its location may be asked for."""
        return self.status is ReplicaStatus.STORED and self.may_register and not self.running

    @property
    def bytes_sent(self) -> int | None:
        """Bytes handed to the target by the put under way; None where none is."""
        reader = self._reader
        return None if reader is None else reader.offset

    def put(self, store: ReplicaStore, path: pathlib.Path, gate: Gate, upload: Upload) -> Stored:
        """Write the upload to the target under a name that no earlier attempt has used.

        The name is in the row before anything bears it, so that whatever an attempt left can be
        found and removed, also by a later writer.

        :raises UploadCut: the upload was refused or handed back
        :raises TakenOver: another node replicates the image to this target
        :raises TargetError:
        :raises FileNotFoundError: the spool file is gone
        :raises SpoolCorrupt: its bytes have changed since they were proven
        :raises oslo_db.exception.DBError:
        """
        if gate.is_cut:
            raise exceptions.UploadCut(upload.image_id, self.target.name, "put", "not begun")
        self._remove_earlier(upload)
        name = self._next_name(upload)
        is_ours = store.update(
            upload.upload_id,
            [self.target.name],
            ReplicaStatus.UPLOADING,
            object_name=name,
            bytes_sent=0,
            next_attempt_at=None,
        )
        if self._is_shared and not is_ours:
            raise exceptions.TakenOver(upload.image_id, self.target.name, "put")
        self.object_name = name
        size = upload.size if upload.received is None else upload.received
        try:
            with SpoolReader(path, gate, self._pace) as self._reader:
                stored = self._complete(self.target.put(name, self._reader, size))
                if self._reader.lagged:
                    _prove_again(path, gate, upload)
        finally:
            self._reader = None
        self._remove_late_arrivals(upload, name)
        return stored

    def confirm(self, upload: Upload) -> Stored:
        """See that the object which an earlier writer stored is still there.

        :raises ReplicaMissing: it is not, or has another size
        :raises TargetError:
        """
        stored = self.target.stat(self.object_name or "")
        if stored is None or stored.size != upload.received:
            raise exceptions.ReplicaMissing(
                upload.image_id, self.target.name, "stat", f"{self.object_name} is not complete"
            )
        return stored

    def mismatch(
        self, stored: Stored | None, checksum: str | None
    ) -> exceptions.TargetCorrupt | None:
        """What is wrong with an object whose target reports another md5 than ``checksum``."""
        if stored is None or stored.checksum in (None, checksum):
            return None
        hint = f"the checksum of {self.object_name} is {stored.checksum} there, not {checksum}"
        return exceptions.TargetCorrupt(None, self.target.name, "put", hint)

    def status_after(self, error: BaseException) -> ReplicaStatus:
        """What has been stored stays so while the target only cannot say whether it is there."""
        unknown = isinstance(error, exceptions.TargetUnavailable | exceptions.TargetRefused)
        is_stored = self.status is ReplicaStatus.STORED
        return ReplicaStatus.STORED if is_stored and unknown else ReplicaStatus.ERROR

    def _next_name(self, upload: Upload) -> str:
        base = f"{upload.image_id}.{upload.upload_id}"
        last, _, number = (self.object_name or "").rpartition(".")
        return f"{base}.{int(number) + 1 if last == base else 1}"

    def _remove_earlier(self, upload: Upload) -> None:
        """Remove what the attempt before this one has left, as far as the target lets us.

        Where it does not, this attempt tells why by an error of its own, and removes what stays
        once it has ended well.
        """
        if self.object_name is None:
            return
        try:
            self.target.delete(self.object_name)
        except exceptions.TargetError as error:
            LOG.debug("Image %s: an earlier attempt stays yet: %s", upload.image_id, error)

    def _remove_late_arrivals(self, upload: Upload, name: str) -> None:
        """Remove what the target has made of an earlier attempt after that was removed.

        A body that was in the kernel's buffers when its writer died or gave up may yet arrive.
        """
        try:
            for earlier in names_up_to(name)[1:]:
                self.target.delete(earlier)
        except exceptions.TargetError as error:
            LOG.warning("Image %s: an earlier attempt may stay: %s", upload.image_id, error)

    def _complete(self, stored: Stored) -> Stored:
        assert self._reader is not None
        if stored.size != self._reader.offset:
            raise exceptions.TargetUnavailable(
                None,
                self.target.name,
                "put",
                f"it holds {stored.size} bytes, {self._reader.offset} were sent",
            )
        return stored


def _prove_again(path: pathlib.Path, gate: Gate, upload: Upload) -> None:
    """A push that came late has read the file long after it was hashed."""
    if gate.digest is None:
        return
    algorithm, proven = gate.digest
    with path.open("rb") as file:
        if hashlib.file_digest(file, algorithm).hexdigest() != proven:
            hint = "the spooled bytes have changed since they were proven"
            raise exceptions.SpoolCorrupt(upload.image_id, None, "put", hint)


def names_up_to(name: str) -> list[str]:
    """The object of an attempt and those of the last attempts before it, the latest first."""
    base, _, number = name.rpartition(".")
    if not number.isdecimal():
        return [name]
    first = max(1, int(number) - _LATE_ATTEMPTS)
    return [f"{base}.{each}" for each in range(int(number), first - 1, -1)]
