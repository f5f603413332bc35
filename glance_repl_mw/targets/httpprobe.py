# SPDX-License-Identifier: Apache-2.0
"""Finds out with a small object what an HTTP server can do."""

from __future__ import annotations

import collections
import itertools
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager

from glance_repl_mw import exceptions
from glance_repl_mw.proxies import is_loopback
from glance_repl_mw.targets.base import Remark
from glance_repl_mw.targets.bounds import TooLong, bounded_blocks
from glance_repl_mw.targets.headers import whole_number
from glance_repl_mw.targets.httpclient import Answer, Client, NotAsGlanceReads
from glance_repl_mw.targets.httperrors import RAISE_LIMIT
from glance_repl_mw.targets.trialbody import TrialBody, digest
from glance_repl_mw.targets.webdav import ACCEPTED, WRITTEN, WebCollection

# No leading dot: web servers like to refuse or to hide such names.
PREFIX = "glance-repl-probe-"
_BODY = b"glance-repl-mw looks whether it can write here\n"
# To a PUT into a collection that is not there; nginx says 500.
_NO_COLLECTION = (404, 409, 500)
# To a MOVE that the server does not know, forbids, or whose Destination it takes for a foreign
# one, as happens behind a proxy.
_NO_MOVE = frozenset((*range(300, 500), 501, 502)) - {408, 425, 429}
_NOT_THERE = (404, 410)
_SIGNED = (
    "it was signed: the server must check secure_link with location_signing_key, and the clocks "
    "must agree"
)
_READ_BY_ALL = "see Replicas that only Glance can read in the documentation"
_USE_TLS = "use https, with ca_file where its certificate is of an authority of your own"
_LOOK_SECONDS = 10.0
_FIRST_LOOK_SECONDS = 5.0
_LOOK_BYTES = 1024
# nginx takes 1 MiB unless it is told otherwise.
_LARGE_BYTES = 4 * 1024**2
# The largest image that Glance takes unless it is told otherwise.
_ANNOUNCED_BYTES = 1024**4
_ANNOUNCED_SECONDS = 3.0
# So many members of a listing show that there is one.
_MEMBERS = 1000


class Probe:
    """Writes, reads, moves and deletes a small object; used by many threads.

    Every method blocks and raises ``TargetUnavailable`` or ``TargetRefused``.
    """

    def __init__(self, client: Client, collection: WebCollection) -> None:
        self._client = client
        self._collection = collection

    def publish_mode(self, wanted: str) -> str:
        """``move`` or ``direct``; makes the collection where it is missing.

        :param wanted: the option ``publish``
        """
        with self._object("probe") as (name, moved):
            self._refuse_compression("probe", name)
            return self._move("probe", name, moved, wanted)

    def look(self, name: str | None, stall_seconds: float) -> None:
        """See whether the server answers at both URLs; writes nothing.

        Both are asked on new connections, or the one that they are. At the location's, some bytes
        are read as well: a server that hangs may still send the headers.

        :param name: an object that must be there; None for none
        :param stall_seconds: for how long the server may be silent
        :raises ReplicaMissing: the server answers, but the object is not there
        :raises SignatureRefused:
        """
        seconds = min(_LOOK_SECONDS, stall_seconds) / 2
        asked = name or PREFIX + uuid.uuid4().hex
        written, read = self._collection.address(asked), self._collection.readable(asked)
        if written == read and self._client.is_anonymous:
            # Glance asks as we do: one request tells of both.
            begun = self._begin(read, (200, 206, *_NOT_THERE), seconds)
            if name and begun.status in _NOT_THERE:
                raise self._missing(f"GET {read}: {begun.status}")
            return
        there = self._client.request(
            "probe", "HEAD", written, (200, *_NOT_THERE), once=True, seconds=seconds
        )
        if name:
            allow: tuple[int, ...] = (200, 206, *_NOT_THERE)
        elif self._collection.signer:
            allow = _NOT_THERE
        else:
            # To strangers, some servers refuse what they do not have.
            allow = (*_NOT_THERE, 403)
        begun = self._begin(read, allow, seconds)
        if name and there.status in _NOT_THERE:
            raise self._missing(f"HEAD {written}: {there.status}")
        if name and begun.status in _NOT_THERE:
            hint = f"GET {read}: {begun.status}, although {written} is there"
            raise self._client.error(exceptions.TargetUnavailable, "probe", hint)

    def _missing(self, hint: str) -> exceptions.TargetError:
        return self._client.error(exceptions.ReplicaMissing, "probe", hint)

    def _begin(self, url: str, allow: Collection[int], seconds: float) -> Answer:
        try:
            return self._client.begin("probe", url, allow, _LOOK_BYTES, seconds)
        except exceptions.TargetRefused as error:
            if not self._collection.signer or isinstance(error, NotAsGlanceReads):
                raise
            hint = f"{error.hint}; {_SIGNED}"
            raise self._client.error(exceptions.SignatureRefused, "probe", hint) from error

    def check(self, wanted: str) -> Sequence[Remark]:
        """Do once all that is done with a replica; errors name the step. Returns remarks."""
        with self._object("check: write") as (name, moved):
            self._read_back("check: read back", name, [_BODY], len(_BODY))
            unprotected = self._unprotected("check: read without signature", name)
            mode = self._move("check: publish", name, moved, wanted)
            self._delete("check: delete", name, moved)
            self._try_large(name)
            limited = self._limited("check: announce 1 TiB", name)
        return [*self._remarks(wanted, mode), *unprotected, *limited]

    @contextmanager
    def _object(self, operation: str) -> Iterator[tuple[str, str]]:
        """A small object, and the name that it may be moved to; both go at the end."""
        # With an end as those of images have it, which some servers take for a type of file.
        stem = PREFIX + uuid.uuid4().hex
        name, moved = f"{stem}.1", f"{stem}.2"
        try:
            status = self._collection.write(operation, name, _BODY, (*WRITTEN, *_NO_COLLECTION))
            if status not in WRITTEN:
                self._collection.make(operation)
                status = self._collection.write(operation, name, _BODY, WRITTEN)
            if status == ACCEPTED:
                self._collection.stat_after(operation, name, status, len(_BODY))
            yield name, moved
        finally:
            self._collection.clean_up(name, moved)

    def _move(self, operation: str, name: str, moved: str, wanted: str) -> str:
        """How objects are published; the object bears its second name if by ``move``."""
        if wanted == "direct":
            return "direct"
        status = self._collection.move(operation, name, moved, (*WRITTEN, *_NO_MOVE))
        if status in WRITTEN and self._collection.stat_after(operation, moved, status, len(_BODY)):
            return "move"
        if wanted == "auto":
            return "direct"
        hint = f"publish = move, but the server answers {status} to MOVE"
        raise self._client.error(exceptions.TargetRefused, operation, hint)

    def _delete(self, operation: str, *names: str) -> None:
        for each in names:
            status = self._collection.delete(operation, each)
            if self._collection.stat_after(operation, each, status, None):
                hint = f"{self._collection.address(each)} is still there"
                raise self._client.error(exceptions.TargetRefused, operation, hint)

    def _try_large(self, name: str) -> None:
        """See that bodies are taken, and given, that are larger than many a server's limit.

        Such a limit, and the least size from which a server compresses, show only then.
        """
        operation = f"check: write {_LARGE_BYTES // 1024**2} MiB"
        self._collection.write_large(operation, name, TrialBody(_LARGE_BYTES), _LARGE_BYTES)
        self._read_back("check: read back", name, TrialBody(_LARGE_BYTES), _LARGE_BYTES)
        self._delete("check: delete", name)

    def _limited(self, operation: str, name: str) -> Sequence[Remark]:
        """Where the server refuses bodies of a size that Glance takes.

        Servers compare what is announced with their limit whatever the method is. To an announced
        PUT some make the object before its body comes; a DELETE makes nothing, and of an object
        that is not there it deletes nothing.
        """
        url = self._collection.address(name)
        try:
            status = self._client.announce(
                operation, "DELETE", url, _ANNOUNCED_BYTES, _ANNOUNCED_SECONDS
            )
        except exceptions.TargetError:
            return []
        if status != 413:
            return []
        text = "url: the server takes no body of 1 TiB (413), and Glance takes such images"
        return [Remark(text, RAISE_LIMIT)]

    def _refuse_compression(self, operation: str, name: str) -> None:
        """Before any image is sent, see that Glance would read what is written.

        Everything else that hinders Glance is told by ``look``, or by Glance.
        """
        url = self._collection.readable(name)
        try:
            self._client.begin(operation, url, range(200, 600), len(_BODY), _FIRST_LOOK_SECONDS)
        except NotAsGlanceReads:
            raise
        except exceptions.TargetError:
            return

    def _read_back(self, operation: str, name: str, body: Iterable[bytes], size: int) -> None:
        """Read the object as Glance does: first HEAD, then GET, without credentials."""
        url = self._collection.readable(name)
        try:
            answer = self._client.head(operation, url, (200,))
            blocks = self._client.blocks(operation, url, anonymous=True)
            is_same = digest(bounded_blocks(blocks, size)) == digest(body)
        except TooLong:
            is_same = False
        except NotAsGlanceReads:
            raise
        except (exceptions.TargetRefused, exceptions.ReplicaMissing) as error:
            how = _SIGNED if self._collection.signer else "Glance reads without credentials"
            hint = f"{error.hint}; {how}"
            raise self._client.error(exceptions.TargetRefused, operation, hint) from error
        if not is_same:
            hint = f"GET {url}: not the bytes that were written to {self._collection.url}"
            raise self._client.error(exceptions.TargetRefused, operation, hint)
        if whole_number(answer.headers.get("Content-Length")) != size:
            hint = f"HEAD {url}: not the right Content-Length, which Glance needs"
            raise self._client.error(exceptions.TargetRefused, operation, hint)

    def _unprotected(self, operation: str, name: str) -> Sequence[Remark]:
        """Where anybody can read what only Glance shall read."""
        if not self._collection.signer:
            return []
        urls = {"location_url": self._collection.location(name)}
        if self._client.sends_credentials:
            urls["url"] = self._collection.address(name)
        remarks = []
        for option, url in urls.items():
            answer = self._client.request(operation, "GET", url, range(200, 600), anonymous=True)
            if answer.status < 300:
                remarks.append(Remark(f"{option}: anybody can read {url}", _READ_BY_ALL))
        return remarks

    def _remarks(self, wanted: str, mode: str) -> Sequence[Remark]:
        remarks = []
        if wanted == "auto" and mode == "direct":
            remarks.append(Remark("publish=direct: the server has no MOVE"))
        if self._client.sends_credentials and self._collection.url.startswith("http:"):
            remedy = "" if is_loopback(self._collection.url) else _USE_TLS
            remarks.append(Remark("url: credentials are sent without TLS", remedy))
        try:
            collections.deque(
                itertools.islice(self._collection.names("check: list"), _MEMBERS), maxlen=0
            )
        except exceptions.TargetRefused as error:
            remarks.append(Remark(f"the server does not list its objects: {error.hint}"))
        return remarks
