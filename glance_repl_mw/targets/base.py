# SPDX-License-Identifier: Apache-2.0
"""The interface of a target driver.

A driver moves bytes and translates errors. Hashing, retries, deadlines, proof and state live in
the writer. Every call blocks, may be repeated, and may come from several threads at once.

A driver also derives from ``targets.border.Bordered``, which makes every exception that is none of
ours a ``TargetUnavailable``. What a server sends it reads within bounds (``targets.bounds``), and
quotes only as ``foreign_text.printable`` leaves it.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from oslo_config import cfg

from glance_repl_mw import exceptions
from glance_repl_mw.model import Stored
from glance_repl_mw.signing import without_signatures


class Reader(Protocol):
    """The bytes of one upload, read once and forwards, possibly while they still arrive."""

    @property
    def offset(self) -> int:
        """Bytes that were read or skipped so far."""

    def wait(self) -> int:
        """How many bytes can be read now; blocks until there are some.

        Returns 0 at the end of the upload.

        :raises UploadCut: the upload was refused, broken off or handed back
        """

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes, blocking while there are none; b"" at the end.

        :raises UploadCut: as in ``wait``
        """

    def skip(self, count: int) -> None:
        """Count ``count`` bytes after ``offset`` as read: they were sent from ``fileno()``."""

    def fileno(self) -> int | None:
        """The spool file's descriptor, for ``sendfile``; its position is not used.

        None where the bytes are in no file.
        """


@dataclasses.dataclass(frozen=True)
class Remark:
    """What a check that found nothing broken has to say.

    :ivar remedy: what the operator should do; empty where nothing has to be done
    """

    text: str
    remedy: str = ""


class Target(abc.ABC):
    """One place that holds replicas.

    :param name: the target's name in the configuration
    :param conf: the values of the section ``[replication:NAME]``
    :ivar renewal_seconds: how often its locations must be looked at, so that none runs out
    :raises ConfigError: an option is missing or wrong; names section and option
    """

    renewal_seconds: float = math.inf
    options: Sequence[cfg.Opt] = ()

    def __init__(self, name: str, conf: cfg.ConfigOpts.GroupAttr) -> None:
        self.name = name
        self.conf = conf

    @abc.abstractmethod
    def put(self, name: str, reader: Reader, size: int | None) -> Stored:
        """Write a new object and return it, complete and visible.

        Whatever fails, nothing partial is ever visible under ``name`` where the target can
        avoid it; ``delete(name)`` removes what a failed call left.

        :param size: bytes that ``reader`` will give, None where that is not known yet
        :raises UploadCut: passed on from the reader, after the transfer was broken off
        :raises TargetUnavailable: the target is down, hangs, is full or failed
        :raises TargetRefused: the target said no
        """

    @abc.abstractmethod
    def stat(self, name: str) -> Stored | None:
        """The object as the target reports it, None where there is none.

        :raises TargetUnavailable:
        :raises TargetRefused:
        """

    @abc.abstractmethod
    def open(self, name: str, offset: int = 0) -> Iterator[bytes]:
        """The object's bytes from ``offset`` on, in blocks, as its location is read.

        :raises ReplicaMissing: the object is not there
        :raises TargetUnavailable: also while the blocks are read
        :raises TargetRefused:
        """

    @abc.abstractmethod
    def read(self, name: str, most_bytes: int, seconds: float) -> bytes | None:
        """The beginning of a small object, read where it is written; None where there is none.

        :param seconds: within which it returns or raises
        :raises TargetUnavailable:
        :raises TargetRefused:
        """

    @abc.abstractmethod
    def delete(self, name: str) -> None:
        """Remove the object, and what an unfinished ``put`` of that name left; idempotent.

        :raises TargetUnavailable:
        :raises TargetRefused:
        """

    @abc.abstractmethod
    def object_name(self, location_url: str) -> str | None:
        """The name of the object that a location names, None where it is none of this target."""

    @property
    def places(self) -> Sequence[str]:
        """Where its objects are written, and where Glance reads them.

        Equal places are equal strings; no two targets may have one in common.
        """
        return (f"target:{self.name}",)

    def location(self, url: str) -> str:
        """The URL that Glance is given for the location ``url`` of this target.

        Another one only where the target signs: then ``url`` with a signature, its own where that
        is good for long enough yet.
        """
        return without_signatures(url)

    @abc.abstractmethod
    def list(self) -> Iterator[str]:
        """The names of all objects, unfinished ones included.

        :raises TargetUnavailable:
        :raises TargetRefused: also where the target cannot list
        """

    @abc.abstractmethod
    def probe(self, name: str | None) -> None:
        """See, at little cost and within some seconds, that the target can be written and read.

        It is read as Glance does it, without credentials, but signed. Nothing is written.

        :param name: an object that must be there; None where there is none yet
        :raises ReplicaMissing: the target is up, but has not that object
        :raises TargetUnavailable: also where it begins to answer and then hangs
        :raises TargetRefused: among them SignatureRefused
        """

    @abc.abstractmethod
    def check(self) -> Sequence[Remark]:
        """Write, read back, publish and delete a small object; returns remarks for the operator.

        :raises TargetUnavailable:
        :raises TargetRefused: names the step that failed
        """


def given_location(targets: Iterable[Target], url: str) -> str:
    """The URL that Glance is given for a location of one of these targets."""
    for target in targets:
        if target.object_name(url):
            return target.location(url)
    return url


def unclear(target: Target, name: str) -> exceptions.TargetUnavailable | None:
    """What is to be told of an object that only Glance can read, at its location; blocks.

    :param name: of an object that is not where it is written
    :returns: None where Glance cannot read it either, so that it is missing
    :raises TargetUnavailable: that cannot be seen
    :raises TargetMisplaced: likewise
    """
    try:
        next(iter(target.open(name)), b"")
    except exceptions.TargetMisplaced:
        raise
    except (exceptions.ReplicaMissing, exceptions.TargetRefused):
        return None
    hint = f"{name} is not there where it is written, although Glance can read it"
    return exceptions.TargetUnavailable(None, target.name, "look for an object", hint)
