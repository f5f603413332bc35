# SPDX-License-Identifier: Apache-2.0
"""The spool directory: one data file and one sidecar per upload attempt.

``UPLOAD.data`` is appended by one API process, which holds an exclusive ``flock`` on it, and
followed by the writer. ``UPLOAD.json`` tells what it is; it is replaced as a whole, by a rename,
so that a reader never sees half of it. ``IMAGE.note`` says that something was done to an image, so
that the reconciler looks at it soon; ``IMAGE.deleted`` says that Glance has deleted it. A sidecar
that says ``receiving`` beside a data file whose lock is free belongs to a process that died.
``bell`` wakes the writer when something has come.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import tempfile
import time
import uuid
from collections.abc import Iterator

from oslo_log import log

from glance_repl_mw import exceptions
from glance_repl_mw.spool.bell import Bell
from glance_repl_mw.spool.upload import Upload, UploadState, upload_of

LOG = log.getLogger(__name__)

DATA_SUFFIX = ".data"
SIDECAR_SUFFIX = ".json"
NOTE_SUFFIX = ".note"
DELETED_SUFFIX = ".deleted"
_HALF_MADE_SECONDS = 60


class Spool:
    """The spool of one node; may be used by any number of processes and threads.

    :param directory: on a local file system
    :param max_bytes: most bytes of data, 0 for no limit but the disk's
    :param min_free_bytes: bytes to leave free on the file system
    :ivar bell: is rung when a sidecar has come or changed of which somebody needs to know, and
        when word was left
    :ivar failed_reads: how many sidecars the system could not read so far
    """

    def __init__(self, directory: str, max_bytes: int = 0, min_free_bytes: int = 0) -> None:
        self.directory = pathlib.Path(directory)
        self.max_bytes = max_bytes
        self.min_free_bytes = min_free_bytes
        self.bell = Bell(self.directory)
        self.failed_reads = 0
        self._seen: dict[str, tuple[tuple[int, int], Upload | None]] = {}
        self._unreadable: set[str] = set()

    def prepare(self) -> None:
        """Make the directory where it is missing and see that it can be written.

        :raises ConfigError: it cannot be used, or others may read it
        """
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.directory, suffix=".tmp"):
                pass
        except OSError as error:
            raise _unusable(f"{self.directory}: {error.strerror}") from error
        if self.directory.stat().st_mode & 0o077:
            raise _unusable(f"{self.directory} is open to other users; make its mode 0700")

    def data_path(self, upload_id: str) -> pathlib.Path:
        return self.directory / f"{upload_id}{DATA_SUFFIX}"

    def sidecar_path(self, upload_id: str) -> pathlib.Path:
        return self.directory / f"{upload_id}{SIDECAR_SUFFIX}"

    def write_sidecar(
        self, upload: Upload, *, durable: bool = False, silent: bool = False
    ) -> None:
        """Put the sidecar into place and ring the bell.

        :param durable: it outlives a crash of the machine
        :param silent: nobody needs to know of it now
        :raises OSError:
        """
        path = self.sidecar_path(upload.upload_id)
        temporary = path.with_suffix(".tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump(dataclasses.asdict(upload), file)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            os.rename(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        if durable:
            self._sync_directory()
        if not silent:
            self.bell.ring()

    def uploads(self) -> list[Upload]:
        """All uploads that have a sidecar, oldest first.

        Sidecars that are cut off, or that cannot be read now, are left out; of the latter the log
        tells once.

        :raises OSError:
        """
        seen: dict[str, tuple[tuple[int, int], Upload | None]] = {}
        unreadable = set()
        for entry in self._entries(SIDECAR_SUFFIX):
            try:
                status = entry.stat()
                version = (status.st_ino, status.st_mtime_ns)
                known = self._seen.get(entry.name)
                if known is None or known[0] != version:
                    known = (version, self.get(entry.name.removesuffix(SIDECAR_SUFFIX)))
                seen[entry.name] = known
            except FileNotFoundError:
                continue
            except exceptions.SidecarUnreadable as error:
                unreadable.add(entry.name)
                if entry.name not in self._unreadable:
                    LOG.error("An upload is left alone: %s", error)
        self._seen, self._unreadable = seen, unreadable
        found = (upload for _, upload in seen.values() if upload)
        return sorted(found, key=lambda upload: upload.created_at)

    def holds(self, image_id: str) -> bool:
        """Whether any upload of the image has a sidecar."""
        return any(upload.image_id == image_id for upload in self.uploads())

    def get(self, upload_id: str) -> Upload | None:
        """The upload as its sidecar tells it, None where that is gone, empty or cut off.

        :raises SidecarUnreadable: the system cannot read it, or it is of a later release
        """
        path = self.sidecar_path(upload_id)
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self.failed_reads += 1
            raise _unreadable(path, error.strerror) from error
        try:
            fields = json.loads(text)
        except ValueError:
            return None
        try:
            return upload_of(fields)
        except (ValueError, TypeError, KeyError) as error:
            hint = f"this release does not understand it, a later one may: {error}"
            raise _unreadable(path, hint) from error

    def stamp(self) -> int:
        """A number that changes when a sidecar or data file comes or goes.

        :raises OSError:
        """
        return os.stat(self.directory).st_mtime_ns

    def is_abandoned(self, upload: Upload) -> bool:
        """Whether nobody appends any more although Glance's answer is not recorded."""
        awaited = upload.state in (UploadState.RECEIVING, UploadState.STAGING)
        return awaited and not self._is_locked(upload.upload_id)

    def awaits_import(self, upload: Upload) -> bool:
        """Whether only an import can use it: staged, or left by who died while it staged it.

        :raises OSError:
        """
        return upload.is_staged and (
            upload.state is UploadState.STAGED or self.is_abandoned(upload)
        )

    def received_bytes(self, upload_id: str) -> int:
        """Bytes in the data file, 0 where there is none."""
        try:
            return self.data_path(upload_id).stat().st_size
        except FileNotFoundError:
            return 0

    def used_bytes(self) -> int:
        """Bytes of all data files together."""
        used = 0
        for entry in self._entries(DATA_SUFFIX):
            with contextlib.suppress(FileNotFoundError):
                used += entry.stat().st_size
        return used

    def require_room(self, more_bytes: int) -> int:
        """See that ``more_bytes`` still fit; returns how many bytes fit besides.

        :raises SpoolFull: quota or free-space floor would be passed
        :raises OSError:
        """
        status = os.statvfs(self.directory)
        room = status.f_bavail * status.f_frsize - self.min_free_bytes - more_bytes
        if room < 0:
            raise exceptions.SpoolFull(
                operation="spool",
                hint=f"less than spool_min_free_bytes ({self.min_free_bytes}) would be free",
            )
        if self.max_bytes:
            room = min(room, self.max_bytes - self.used_bytes() - more_bytes)
        if room < 0:
            raise exceptions.SpoolFull(
                operation="spool", hint=f"spool_max_bytes ({self.max_bytes}) is reached"
            )
        return room

    def is_crowded(self, percent: int, more_bytes: int = 0) -> bool:
        """Whether more than this share of the room that the spool has is taken.

        :param more_bytes: as if these were in it too

        :raises OSError:
        """
        used = self.used_bytes()
        return (used + more_bytes) * 100 > self._capacity_bytes(used) * percent

    def capacity_bytes(self) -> int:
        """Bytes that the spool can hold, those that it holds now included.

        :raises OSError:
        """
        return self._capacity_bytes(self.used_bytes())

    def _capacity_bytes(self, used: int) -> int:
        status = os.statvfs(self.directory)
        room = used + max(0, status.f_bavail * status.f_frsize - self.min_free_bytes)
        return min(room, self.max_bytes) if self.max_bytes else room

    def record_unspooled(self, image_id: str, error: str) -> None:
        """Leave word that Glance accepted an image whose body the spool does not hold.

        :raises OSError:
        """
        self.write_sidecar(
            Upload(
                upload_id=uuid.uuid4().hex,
                image_id=image_id,
                size=None,
                state=UploadState.ACCEPTED,
                created_at=time.time(),
                error=error,
            ),
            durable=True,
        )

    def note(self, image_id: str, *, was_deleted: bool = False) -> None:
        """Leave word that something was done to an image; does nothing where it was left already.

        :param was_deleted: Glance has answered a DELETE of the image with 2xx
        :raises OSError:
        """
        suffix = DELETED_SUFFIX if was_deleted else NOTE_SUFFIX
        path = self.directory / f"{image_id}{suffix}"
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        self.bell.ring()

    def take_notes(self) -> list[str]:
        """The images of which word was left; it is taken away.

        :raises OSError:
        """
        noted = list(self.directory.glob(f"*{NOTE_SUFFIX}"))
        for path in noted:
            path.unlink(missing_ok=True)
        return [path.stem for path in noted]

    def deleted_images(self) -> list[str]:
        """The images of which word was left that Glance has deleted them; it stays.

        :raises OSError:
        """
        return [path.stem for path in self.directory.glob(f"*{DELETED_SUFFIX}")]

    def forget_deleted_image(self, image_id: str) -> None:
        """Take that word away; it is known elsewhere now.

        :raises OSError:
        """
        (self.directory / f"{image_id}{DELETED_SUFFIX}").unlink(missing_ok=True)

    def settle(self, upload: Upload, state: UploadState) -> Upload:
        """Record the end of an abandoned upload; returns the new record.

        :raises OSError:
        """
        received = self.received_bytes(upload.upload_id)
        settled = dataclasses.replace(upload, state=state, received=received)
        self.write_sidecar(settled, durable=True)
        return settled

    def remove(self, upload_id: str) -> None:
        """Forget an upload: the data first, so that a crash in between leaves a sidecar."""
        self.data_path(upload_id).unlink(missing_ok=True)
        self.sidecar_path(upload_id).unlink(missing_ok=True)

    def remove_half_made(self) -> None:
        """Remove what a process left that died while it made or replaced a sidecar.

        :raises OSError:
        """
        for path in self.directory.iterdir():
            with contextlib.suppress(FileNotFoundError):
                old = time.time() - path.stat().st_mtime > _HALF_MADE_SECONDS
                if old and self._is_half_made(path):
                    path.unlink()

    def _is_half_made(self, path: pathlib.Path) -> bool:
        if path.suffix == ".tmp":
            return True
        if path.suffix == SIDECAR_SUFFIX:
            return self._is_cut_off(path.stem)
        return (
            path.suffix == DATA_SUFFIX
            and not self.sidecar_path(path.stem).exists()
            and not self._is_locked(path.stem)
        )

    def _is_cut_off(self, upload_id: str) -> bool:
        try:
            return self.get(upload_id) is None
        except exceptions.SidecarUnreadable:
            return False

    def _is_locked(self, upload_id: str) -> bool:
        try:
            with self.data_path(upload_id).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def _entries(self, suffix: str) -> Iterator[os.DirEntry[str]]:
        with os.scandir(self.directory) as entries:
            yield from (entry for entry in entries if entry.name.endswith(suffix))

    def _sync_directory(self) -> None:
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _unreadable(path: pathlib.Path, why: str | None) -> exceptions.SidecarUnreadable:
    return exceptions.SidecarUnreadable(operation=f"read {path}", hint=why or "")


def _unusable(hint: str) -> exceptions.ConfigError:
    return exceptions.ConfigError(
        operation="read configuration", hint=f"[replication] spool_dir: {hint}"
    )
