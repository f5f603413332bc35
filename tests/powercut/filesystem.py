# SPDX-License-Identifier: Apache-2.0
"""A file system in memory that loses what was not fsynced; and the switch that cuts its power.

::

    python -m tests.powercut.filesystem MOUNTPOINT SOCKET

The socket takes one JSON object a line and answers each with another; see ``PowerSwitch``.
"""

import contextlib
import errno
import json
import os
import random
import signal
import socketserver
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import mfusepy

from tests.powercut.disk import Disk, Inode

_BLOCK_BYTES = 4096
_BLOCKS = 1 << 20
_LONGEST_NAME = 255
_HIDDEN = ".fuse_hidden"


class LosingFileSystem(mfusepy.Operations):
    """Serves a `Disk`; the kernel itself keeps locks and pipes.

    At an operation that changes something the power may go: all that use the file system are
    killed before they get an answer, and nobody gets one until `cut`.

    :ivar changes: how many such operations there were
    """

    use_ns = True

    def __init__(self) -> None:
        self._guard = threading.RLock()
        self.disk = Disk()
        self.changes = 0
        self._open: dict[int, Inode] = {}
        self._hidden: dict[str, Inode] = {}
        self._users: list[int] = []
        self._strike_at: int | None = None
        self._is_dark = False

    # The power

    def arm(self, users: list[int], after: int) -> None:
        """Let the power go at a change to come, for these processes."""
        with self._guard:
            self._users, self._strike_at = users, self.changes + after

    def strike(self) -> None:
        """Let the power go now, if it is not gone yet."""
        with self._guard:
            if not self._is_dark:
                self._is_dark, self._strike_at = True, None
                for pid in self._users:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    def cut(self, luck: random.Random | None) -> None:
        """Have power again, once nobody uses the file system."""
        with self._guard:
            self.disk.cut(luck)
            self._hidden = {}
            self._is_dark = False

    def sync(self) -> None:
        """Bring everything to the disk, as time does."""
        with self._guard:
            self.disk.sync_all()

    @property
    def is_dark(self) -> bool:
        return self._is_dark

    @contextlib.contextmanager
    def _change(self) -> Iterator[None]:
        with self._guard:
            self.changes += 1
            if self._strike_at is not None and self.changes >= self._strike_at:
                self.strike()
            self._need_power()
            yield

    def _need_power(self) -> None:
        if self._is_dark:
            raise mfusepy.FuseOSError(errno.EIO)

    # What is looked up

    def _inode(self, path: str, fh: int | None = None) -> Inode:
        if fh is not None and fh in self._open:
            return self._open[fh]
        self._need_power()
        if path in self._hidden:
            return self._hidden[path]
        inode = self.disk.root
        for name in path.split("/")[1:]:
            if name:
                if name not in inode.entries:
                    raise mfusepy.FuseOSError(errno.ENOENT)
                inode = inode.entries[name]
        return inode

    def _place(self, path: str) -> tuple[Inode, str]:
        parent, _, name = path.rpartition("/")
        return self._inode(parent), name

    def _use(self, inode: Inode) -> int:
        fh = next(number for number in range(1, 1 << 20) if number not in self._open)
        self._open[fh] = inode
        return fh

    # Reading

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        with self._guard:
            inode = self._inode(path, fh)
            return {
                "st_ino": inode.number,
                "st_mode": inode.mode,
                "st_nlink": max(1, inode.links),
                "st_size": len(inode.data),
                "st_blocks": -(-len(inode.data) // 512),
                "st_uid": os.geteuid(),
                "st_gid": os.getegid(),
                **dict.fromkeys(("st_atime", "st_mtime", "st_ctime"), inode.changed_at),
            }

    def readdir(self, path: str, fh: int) -> list[tuple[str, dict[str, int], int]]:
        with self._guard:
            return [
                (name, {"st_ino": inode.number, "st_mode": inode.mode}, 0)
                for name, inode in self._inode(path).entries.items()
            ]

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        with self._guard:
            self._need_power()
            return bytes(self._inode(path, fh).data[offset : offset + size])

    def statfs(self, path: str) -> dict[str, int]:
        return {
            **dict.fromkeys(("f_bsize", "f_frsize"), _BLOCK_BYTES),
            **dict.fromkeys(("f_blocks", "f_bfree", "f_bavail"), _BLOCKS),
            **dict.fromkeys(("f_files", "f_ffree", "f_favail"), _BLOCKS),
            "f_namemax": _LONGEST_NAME,
        }

    def open(self, path: str, flags: int) -> int:
        with self._guard:
            return self._use(self._inode(path))

    def opendir(self, path: str) -> int:
        return self.open(path, 0)

    def release(self, path: str, fh: int) -> int:
        with self._guard:
            self._open.pop(fh, None)
        return 0

    releasedir = release

    # Changing

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        self.mknod(path, stat.S_IFREG | stat.S_IMODE(mode), 0)
        return self.open(path, 0)

    def mknod(self, path: str, mode: int, dev: int) -> int:
        with self._change():
            directory, name = self._place(path)
            if name in directory.entries:
                raise mfusepy.FuseOSError(errno.EEXIST)
            inode = Inode(mode)
            inode.links = 1
            self.disk.rename(directory, {name: inode})
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        return self.mknod(path, stat.S_IFDIR | stat.S_IMODE(mode), 0)

    def link(self, target: str, source: str) -> int:
        with self._change():
            inode, (directory, name) = self._inode(source), self._place(target)
            inode.links += 1
            self.disk.rename(directory, {name: inode})
        return 0

    def unlink(self, path: str) -> int:
        with self._guard:
            if self._hidden.pop(path, None):
                return 0
        with self._change():
            directory, name = self._place(path)
            self._inode(path).links -= 1
            self.disk.rename(directory, {name: None})
        return 0

    def rmdir(self, path: str) -> int:
        if self._inode(path).entries:
            raise mfusepy.FuseOSError(errno.ENOTEMPTY)
        return self.unlink(path)

    def rename(self, old: str, new: str) -> int:
        with self._change():
            (source, name), (directory, new_name) = self._place(old), self._place(new)
            inode = self._inode(old)
            if new_name.startswith(_HIDDEN):
                # So libfuse calls a file that has no name any more and that somebody has open.
                self._hidden[new] = inode
                self.disk.rename(source, {name: None})
            elif source is directory:
                self.disk.rename(directory, {name: None, new_name: inode})
            else:
                self.disk.rename(directory, {new_name: inode})
                self.disk.rename(source, {name: None})
        return 0

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        with self._change():
            self._inode(path, fh).change((offset, bytes(data)))
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        with self._change():
            self._inode(path, fh).change((length, None))
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        with self._change():
            self.disk.sync(self._inode(path, fh))
        return 0

    fsyncdir = fsync

    def chmod(self, path: str, mode: int) -> int:
        with self._guard:
            inode = self._inode(path)
            inode.mode = stat.S_IFMT(inode.mode) | stat.S_IMODE(mode)
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        return 0


class PowerSwitch(socketserver.ThreadingUnixStreamServer):
    """Takes orders: ``{"do": NAME, ...}`` with the arguments of that name's method."""

    daemon_threads = True

    def __init__(self, path: str, files: LosingFileSystem) -> None:
        super().__init__(path, _Orders)
        self.orders: dict[str, Callable[..., Any]] = {
            "arm": files.arm,
            "strike": files.strike,
            "sync": files.sync,
            "cut": lambda seed: files.cut(None if seed is None else random.Random(seed)),
            "look": lambda: {"is_dark": files.is_dark, "changes": files.changes},
        }


class _Orders(socketserver.StreamRequestHandler):
    server: PowerSwitch

    def handle(self) -> None:
        for line in self.rfile:
            order = json.loads(line)
            answer = self.server.orders[order.pop("do")](**order)
            self.wfile.write(json.dumps(answer).encode() + b"\n")


def main(mountpoint: str, socket: str) -> None:
    """Serve until it is unmounted."""
    files = LosingFileSystem()
    switch = PowerSwitch(socket, files)
    threading.Thread(target=switch.serve_forever, daemon=True).start()
    mfusepy.FUSE(
        files,
        mountpoint,
        foreground=True,
        nothreads=True,
        use_ino=True,
        entry_timeout=0,
        attr_timeout=0,
        negative_timeout=0,
        fsname="losing",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
