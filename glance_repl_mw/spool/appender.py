# SPDX-License-Identifier: Apache-2.0
"""The writing end of one spooled upload."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import time
import uuid
from collections.abc import Sequence
from typing import Any

from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.spool.upload import Origin, Upload, UploadState

# More would not go into one system call.
MOST_PIECES = 1024
_ROOM_CHECK_BYTES = 16 * 1024**2


class Appender:
    """Appends the body of one upload attempt; owned by the thread that serves the upload.

    The data file is locked and the sidecar in place when the constructor returns.

    :param size: announced bytes, None where unknown
    :param origin: where the bytes come from
    :param upload_id: a fresh one by default
    :param targets: those that the bytes are for, None for all
    :param known_image: as in ``Upload``, likewise ``held_back``
    :raises SpoolFull: there is no room for ``size`` bytes
    :raises OSError: the spool cannot be written; nothing is left behind
    """

    def __init__(
        self,
        spool: Spool,
        image_id: str,
        size: int | None,
        origin: Origin = Origin.UPLOAD,
        upload_id: str | None = None,
        targets: Sequence[str] | None = None,
        known_image: dict[str, Any] | None = None,
        held_back: bool = False,
    ) -> None:
        room = spool.require_room(size or 0)
        self._spool = spool
        self._received = 0
        self._check_at = min(room, _ROOM_CHECK_BYTES)
        self._upload = Upload(
            upload_id=upload_id or uuid.uuid4().hex,
            image_id=image_id,
            size=size,
            state=UploadState.STAGING if origin is Origin.STAGE else UploadState.RECEIVING,
            created_at=time.time(),
            origin=origin,
            targets=None if targets is None else tuple(targets),
            known_image=known_image,
            held_back=held_back,
        )
        self._data_path = spool.data_path(self._upload.upload_id)
        self._file = open(self._data_path, "xb", buffering=0, opener=_private)  # noqa: SIM115
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            # Nothing can be done with an upload that cannot be sent before it is accepted.
            spool.write_sidecar(self._upload, silent=not self._upload.can_be_sent_early)
        except OSError:
            self._drop_data()
            raise

    @property
    def upload_id(self) -> str:
        return self._upload.upload_id

    @property
    def size(self) -> int | None:
        """Announced bytes, None where unknown."""
        return self._upload.size

    def append(self, *pieces: bytes) -> None:
        """Write at most ``MOST_PIECES`` behind what is there.

        :raises SpoolFull: quota or free-space floor is reached
        :raises OSError:
        """
        count = sum(map(len, pieces))
        if self._received + count > self._check_at:
            room = self._spool.require_room(count)
            self._check_at = self._received + count + min(room // 2, _ROOM_CHECK_BYTES)
        written = os.writev(self._file.fileno(), pieces)
        if written < count:
            self._write_all(b"".join(pieces)[written:])
        self._received += count

    def accept(self) -> None:
        """Record durably that Glance has accepted the bytes, or holds them staged.

        :raises OSError:
        """
        staged = self._upload.origin is Origin.STAGE
        self._settle(UploadState.STAGED if staged else UploadState.ACCEPTED, durable=True)
        self._file.close()

    def reject(self, error: str | None = None) -> None:
        """Record that Glance did not accept the bytes, and let go of them.

        :raises OSError:
        """
        try:
            self._settle(UploadState.REJECTED, error=error)
        except Exception:
            # On a full disk there is room for the record only once the bytes are gone.
            self._drop_data()
            self._settle(UploadState.REJECTED, error=error)
        else:
            self._drop_data()

    def discard(self) -> None:
        """Let go of the bytes, of which the writer does not know; nothing stays.

        :raises OSError:
        """
        self._drop_data()
        self._spool.remove(self.upload_id)

    def _write_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]

    def _settle(
        self, state: UploadState, *, durable: bool = False, error: str | None = None
    ) -> None:
        self._spool.write_sidecar(
            dataclasses.replace(self._upload, state=state, received=self._received, error=error),
            durable=durable,
        )

    def _drop_data(self) -> None:
        self._data_path.unlink(missing_ok=True)
        with self._file:
            # The writer may hold the file open, and with it the room that the bytes take.
            self._file.truncate(0)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
