# SPDX-License-Identifier: Apache-2.0
"""The way of one upload to one target."""

from __future__ import annotations

import hashlib
import pathlib
import time

from oslo_log import log

from glance_repl_mw import exceptions
from glance_repl_mw.db.store import ReplicaStore
from glance_repl_mw.model import ENDED, Replica, ReplicaStatus, Stored
from glance_repl_mw.pace import Pace
from glance_repl_mw.replicas.name import ObjectName
from glance_repl_mw.spool.reader import Gate, SpoolReader
from glance_repl_mw.spool.upload import Upload
from glance_repl_mw.targets.base import Target

LOG = log.getLogger(__name__)

_KEPT_AT_START = (ReplicaStatus.STORED, *ENDED)
# Objects of attempts before these are left to the search for orphans.
_MOST_FORMER = 16


class Push:
    """Where the upload stands at the target; ``put`` and ``confirm`` run in the target's pool.

    The rest belongs to the main loop. What an earlier writer left under way begins again.

    :param row: what the database knows
    :param pace: what all pushes to the target keep to
    :param is_shared: other nodes may take the row over
    :ivar former_objects: names of objects of earlier attempts, which stay until the replica is
        active: one of them may be what a location names
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
        self.former_objects = row.object_names[1:]
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
    def object_names(self) -> list[str]:
        """The names of all objects at the target that are of this replica."""
        return [*filter(None, [self.object_name]), *self.former_objects]

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
        """Write the upload to the target under a name that no other attempt has ever used.

        The name is in the row before anything bears it, and what earlier attempts have left stays
        in the row and at the target until the replica is active.

        :raises UploadCut: the upload was refused or handed back
        :raises TakenOver: another node replicates the image to this target
        :raises TargetError:
        :raises FileNotFoundError: the spool file is gone
        :raises SpoolCorrupt: its bytes have changed since they were proven
        :raises oslo_db.exception.DBError:
        """
        if gate.is_cut:
            raise exceptions.UploadCut(upload.image_id, self.target.name, "put", "not begun")
        name = self._next_name(upload)
        former = self.object_names[:_MOST_FORMER]
        is_ours = store.update(
            upload.upload_id,
            [self.target.name],
            ReplicaStatus.UPLOADING,
            object_name=name,
            former_objects=" ".join(former) or None,
            bytes_sent=0,
            next_attempt_at=None,
        )
        if self._is_shared and not is_ours:
            raise exceptions.TakenOver(upload.image_id, self.target.name, "put")
        self.object_name, self.former_objects = name, former
        LOG.debug("Image %s, target %s: transfer of %s", upload.image_id, self.target.name, name)
        size = upload.size if upload.received is None else upload.received
        try:
            with SpoolReader(path, gate, self._pace) as self._reader:
                stored = self._complete(self.target.put(name, self._reader, size))
                if self._reader.lagged:
                    _prove_again(path, gate, upload)
        finally:
            self._reader = None
        return stored

    def adopt(self, name: str, location_url: str) -> None:
        """The object of this name is a location of the image: it is what the replica is."""
        self.former_objects = [each for each in self.object_names if each != name]
        self.object_name, self.location_url = name, location_url
        self.status = ReplicaStatus.STORED

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
        last = ObjectName.parse(self.object_name or "")
        first = ObjectName.first(upload.image_id, self.target.name, upload.upload_id, time.time())
        if last is None or last.upload_id != upload.upload_id:
            return str(first)
        return str(max(last.next(), first, key=lambda name: name.attempt))

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
