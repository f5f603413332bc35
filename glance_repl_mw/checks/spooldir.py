# SPDX-License-Identifier: Apache-2.0
"""Can the spool take uploads?"""

from __future__ import annotations

import os
import pathlib
import pwd
import re
from collections.abc import Iterator

from glance_repl_mw import exceptions
from glance_repl_mw.checks.deployment import Deployment
from glance_repl_mw.checks.finding import Finding, error, ok, warning
from glance_repl_mw.checks.places import can_hold, existing
from glance_repl_mw.spool.directory import Spool

_NETWORK = re.compile(r"9p|afs|beegfs|ceph|cifs|fuse\..+|glusterfs|lustre|nfs4?|smb3|smbfs")
_MOUNTS = pathlib.Path("/proc/self/mountinfo")


def check(deployment: Deployment) -> Iterator[Finding]:
    options = deployment.replication.replication
    path = pathlib.Path(options.spool_dir).absolute()
    where = f"[replication] spool_dir {path}"
    findings = [*_directory(where, path), *_disk(where, path, options.spool_min_free_bytes)]
    yield from findings or [ok(where, "can be written, and is private and local")]


def _directory(where: str, path: pathlib.Path) -> Iterator[Finding]:
    if not path.exists():
        parent = existing(path)
        if not can_hold(parent):
            remedy = "make it, with mode 0700, for the user of glance-api"
            yield error(where, f"is missing, and cannot be made in {parent}", remedy)
        else:
            yield ok(where, "is made when Glance starts")
        return
    if not path.is_dir():
        yield error(where, "is not a directory", "name a directory of its own")
        return
    status = path.stat()
    if status.st_mode & 0o077:
        yield error(where, f"has mode {status.st_mode & 0o777:04o}", "make its mode 0700")
        return
    if status.st_uid != os.geteuid():
        owner, user = _name(status.st_uid), _name(os.geteuid())
        remedy = f"run this check as the user of glance-api, who must own it, not as {user}"
        yield warning(where, f"belongs to {owner}", remedy)
    try:
        Spool(str(path)).prepare()
    except exceptions.ConfigError as problem:
        remedy = "make the user of glance-api its owner, on a file system that can be written"
        yield error(where, f"cannot be written: {problem.hint}", remedy)


def _disk(where: str, path: pathlib.Path, min_free_bytes: int) -> Iterator[Finding]:
    status = os.statvfs(existing(path))
    free = status.f_bavail * status.f_frsize
    if free < min_free_bytes:
        text = f"has {free} bytes free, less than spool_min_free_bytes ({min_free_bytes})"
        yield error(where, f"{text}: nothing is spooled", "make room, or lower that option")
    kind = _file_system(existing(path).resolve())
    if _NETWORK.fullmatch(kind):
        yield warning(where, f"is on a network file system ({kind})", "use a local disk")


def _file_system(path: pathlib.Path) -> str:
    """The type of the file system that holds the path, empty where the kernel does not say."""
    try:
        lines = _MOUNTS.read_text().splitlines()
    except OSError:
        return ""
    mounts: dict[pathlib.Path, str] = {}
    for line in lines:
        left, _, right = line.partition(" - ")
        point = left.split()[4].encode().decode("unicode_escape")
        mounts[pathlib.Path(point)] = right.split()[0]
    return next((mounts[place] for place in (path, *path.parents) if place in mounts), "")


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
