"""Finds out with a small object what an HTTP server can do."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from glance_repl_mw import exceptions
from glance_repl_mw.proxies import is_loopback
from glance_repl_mw.targets.base import Remark
from glance_repl_mw.targets.httpclient import Answer, Client
from glance_repl_mw.targets.webdav import WRITTEN, WebCollection

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
_LOOK_BYTES = 1024


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
            if not self._collection.signer:
                raise
            hint = f"{error.hint}; {_SIGNED}"
            raise self._client.error(exceptions.SignatureRefused, "probe", hint) from error

    def check(self, wanted: str) -> Sequence[Remark]:
        """Do once all that is done with a replica; errors name the step. Returns remarks."""
        with self._object("check: write") as (name, moved):
            self._read_back("check: read back", name)
            unprotected = self._unprotected("check: read without signature", name)
            mode = self._move("check: publish", name, moved, wanted)
            for each in (name, moved):
                self._collection.delete("check: delete", each)
                if self._collection.stat("check: delete", each):
                    hint = f"{self._collection.address(each)} is still there"
                    raise self._client.error(exceptions.TargetRefused, "check: delete", hint)
        return [*self._remarks(wanted, mode), *unprotected]

    @contextmanager
    def _object(self, operation: str) -> Iterator[tuple[str, str]]:
        """A small object, and the name that it may be moved to; both go at the end."""
        name = PREFIX + uuid.uuid4().hex
        names = (name, f"{name}-moved")
        try:
            status = self._collection.write(operation, name, _BODY, (*WRITTEN, *_NO_COLLECTION))
            if status not in WRITTEN:
                self._collection.make(operation)
                self._collection.write(operation, name, _BODY, WRITTEN)
            yield names
        finally:
            self._collection.clean_up(*names)

    def _move(self, operation: str, name: str, moved: str, wanted: str) -> str:
        """How objects are published; the object bears its second name if by ``move``."""
        if wanted == "direct":
            return "direct"
        status = self._collection.move(operation, name, moved, (*WRITTEN, *_NO_MOVE))
        if status in WRITTEN and self._collection.stat(operation, moved):
            return "move"
        if wanted == "auto":
            return "direct"
        hint = f"publish = move, but the server answers {status} to MOVE"
        raise self._client.error(exceptions.TargetRefused, operation, hint)

    def _read_back(self, operation: str, name: str) -> None:
        """Read the object as Glance does: first HEAD, then GET, without credentials."""
        url = self._collection.readable(name)
        try:
            answer = self._client.request(operation, "HEAD", url, (200,), anonymous=True)
            content = b"".join(self._client.blocks(operation, url, anonymous=True))
        except (exceptions.TargetRefused, exceptions.ReplicaMissing) as error:
            how = _SIGNED if self._collection.signer else "Glance reads without credentials"
            hint = f"{error.hint}; {how}"
            raise self._client.error(exceptions.TargetRefused, operation, hint) from error
        if content != _BODY:
            hint = f"GET {url}: not the bytes that were written to {self._collection.url}"
            raise self._client.error(exceptions.TargetRefused, operation, hint)
        if answer.headers.get("Content-Length") != str(len(_BODY)):
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
            self._collection.names("check: list")
        except exceptions.TargetRefused as error:
            remarks.append(Remark(f"the server does not list its objects: {error.hint}"))
        return remarks
