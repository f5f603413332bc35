# SPDX-License-Identifier: Apache-2.0
"""What a disk holds after the power is cut, by what was written to it and what was fsynced.

The strict model keeps no more than POSIX promises: bytes are there once their file was fsynced,
names once their directory was. A lucky disk has written some of the rest as well: any of it, in
any order, as caches and journals of real ones do.
"""

import dataclasses
import itertools
import random
import stat
import time
from collections.abc import Sequence

Write = tuple[int, bytes | None]
"""Where bytes were written; or, without bytes, how long the file was made."""


class Inode:
    """A file, directory or pipe; what it is now, and what of it is on the disk.

    :ivar data: the bytes that all see
    :ivar written: since the last fsync, in their order
    :ivar entries: of a directory, the names that all see
    :ivar links: how many names it has
    """

    _numbers = itertools.count(1)

    def __init__(self, mode: int) -> None:
        self.number = next(self._numbers)
        self.mode = mode
        self.data = bytearray()
        self.durable = bytearray()
        self.written: list[Write] = []
        self.entries: dict[str, Inode] = {}
        self.durable_entries: dict[str, Inode] = {}
        self.links = 0
        self.changed_at = time.time_ns()

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    def change(self, write: Write) -> None:
        """Write or truncate."""
        _apply(self.data, write)
        self.written.append(write)
        self.touch()

    def touch(self) -> None:
        # No two changes bear one stamp, however coarse the clock is.
        self.changed_at = max(time.time_ns(), self.changed_at + 1)

    def flush(self, some: Sequence[Write] | None = None) -> None:
        """Bring to the disk what was written, or some of it."""
        for write in self.written if some is None else some:
            _apply(self.durable, write)
        self.written = []


@dataclasses.dataclass(frozen=True)
class Renaming:
    """What happens to the names of one directory at once: inodes by name, None for no more."""

    directory: Inode
    names: dict[str, Inode | None]

    def keep(self) -> None:
        _rename(self.directory.durable_entries, self.names)


class Disk:
    """A tree of inodes under one lock of its user's.

    :ivar root: the directory at its top
    """

    def __init__(self) -> None:
        self.root = Inode(stat.S_IFDIR | 0o755)
        self._journal: list[Renaming] = []

    def rename(self, directory: Inode, names: dict[str, Inode | None]) -> None:
        """Give names, or take them away."""
        _rename(directory.entries, names)
        directory.touch()
        self._journal.append(Renaming(directory, names))

    def sync(self, inode: Inode) -> None:
        """As fsync does."""
        inode.flush()
        if inode.is_directory:
            for renaming in self._journal:
                if renaming.directory is inode:
                    renaming.keep()
            self._journal = [each for each in self._journal if each.directory is not inode]

    def sync_all(self) -> None:
        """As sync(1) does."""
        for renaming in self._journal:
            renaming.keep()
        self._journal = []
        waiting = [self.root]
        while waiting:
            inode = waiting.pop()
            inode.flush()
            waiting += inode.entries.values()

    def cut(self, luck: random.Random | None) -> None:
        """Lose what is not on the disk.

        :param luck: of what was written and not fsynced, it chooses what is there all the same;
            None for nothing
        """
        for renaming in _some(self._journal, luck):
            renaming.keep()
        self._journal = []
        self._lose(self.root, luck)

    def _lose(self, inode: Inode, luck: random.Random | None) -> None:
        inode.flush(_some(inode.written, luck))
        inode.data = bytearray(inode.durable)
        inode.entries = dict(inode.durable_entries)
        for child in inode.entries.values():
            self._lose(child, luck)
        for child in inode.entries.values():
            child.links = 1


def _some(happened: Sequence, luck: random.Random | None) -> Sequence:
    """What of it reached the disk, in its order: nothing, all, the beginning or any part."""
    if luck is None:
        return ()
    kind = luck.randrange(4)
    if kind == 0:
        return ()
    if kind == 1:
        return happened
    if kind == 2:
        return happened[: luck.randrange(len(happened) + 1)]
    return [each for each in happened if luck.random() < 0.5]


def _apply(data: bytearray, write: Write) -> None:
    where, piece = write
    if piece is None:
        del data[where:]
    data.extend(bytes(max(0, where - len(data))))
    if piece is not None:
        data[where : where + len(piece)] = piece


def _rename(entries: dict[str, Inode], names: dict[str, Inode | None]) -> None:
    for name, inode in names.items():
        if inode is None:
            entries.pop(name, None)
        else:
            entries[name] = inode
