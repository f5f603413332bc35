# SPDX-License-Identifier: Apache-2.0
"""One collection of an HTTP server: the requests that are not the upload of an image.

Only PUT, HEAD, GET and DELETE are expected of every server; the rest is tried.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Collection, Iterator
from urllib import parse

from glance_repl_mw import exceptions
from glance_repl_mw.foreign_text import printable
from glance_repl_mw.model import Stored
from glance_repl_mw.signing import Signer
from glance_repl_mw.targets import listings
from glance_repl_mw.targets.base import Reader
from glance_repl_mw.targets.bounds import TooLong, TooSlow, bounded_blocks
from glance_repl_mw.targets.headers import md5, whole_number, whole_size
from glance_repl_mw.targets.httpclient import AS_GLANCE_ASKS, Client
from glance_repl_mw.targets.sendfile import Upload

ACCEPTED = 202
WRITTEN = (200, 201, ACCEPTED, 204)
GONE = (200, ACCEPTED, 204, 404, 410)
_NOT_THERE = (404, 410)
_NO_PROPFIND = (400, 403, 405, 415, 501)
_CLEAN_UP_SECONDS = 5.0
# For how long a server may take to do what it has only accepted, with 202.
_ACCEPTED_SECONDS = 10.0
_ACCEPTED_PAUSE_SECONDS = 0.2
_PROPFIND = b'<?xml version="1.0"?><propfind xmlns="DAV:"><prop><resourcetype/></prop></propfind>'


@dataclasses.dataclass(frozen=True)
class ListingLimits:
    """What the longest and slowest listing may take that is still read."""

    most_names: int = 10_000_000
    most_bytes: int = 4 * 1024**3
    most_seconds: float = 6 * 3600.0
    least_bytes_per_second: float = 16 * 1024.0
    grace_seconds: float = 60.0


class ImproperName(exceptions.TargetRefused, ValueError):
    """What cannot be the name of an object."""


class WebCollection:
    """A collection at ``url``, which Glance reads at ``location_url``; used by many threads.

    What ``signer`` signs is the URL of a location in every other respect.

    Every method blocks and raises ``TargetUnavailable`` or ``TargetRefused``, which name the
    operation that it was called for.
    """

    def __init__(
        self, client: Client, url: str, location_url: str, signer: Signer | None = None
    ) -> None:
        self.url = url
        self.location_url = location_url
        self.signer = signer
        self.limits = ListingLimits()
        self._client = client
        # Where Glance reads what is written here, its size is what Glance would be told.
        self._asked = AS_GLANCE_ASKS if url == location_url else {}

    def address(self, name: str) -> str:
        """The URL at which the object is written."""
        return self.url + _quoted(name)

    def location(self, name: str) -> str:
        """The URL of the object's location, not signed."""
        return self.location_url + _quoted(name)

    def readable(self, name: str) -> str:
        """The URL at which Glance reads the object, signed where the target signs."""
        location = self.location(name)
        return self.signer.signed(location) if self.signer else location

    def name_at(self, location: str) -> str | None:
        """The name of the object that Glance reads at this URL, None where it is none of ours."""
        if not location.startswith(self.location_url):
            return None
        name = parse.unquote(location.removeprefix(self.location_url))
        return name if name and "/" not in name else None

    def write(self, operation: str, name: str, body: bytes, allow: Collection[int]) -> int:
        """PUT a small object; returns the status."""
        return self._client.request(operation, "PUT", self.address(name), allow, body=body).status

    def read(self, operation: str, name: str, most_bytes: int, seconds: float) -> bytes | None:
        """The beginning of a small object, None where there is none; takes so long at most."""
        allow = (200, *_NOT_THERE)
        answer = self._client.read(operation, self.address(name), allow, most_bytes, seconds)
        return answer.content if answer.status == 200 else None

    def write_large(self, operation: str, name: str, body: Reader, size: int) -> None:
        """PUT what is larger than fits into a request."""
        upload = Upload(self._client.target, body, size, False, self._client.stall_seconds)
        status = self._client.upload(operation, self.address(name), upload, WRITTEN).status
        stored = self.stat_after(operation, name, status, size)
        if not upload.complete or stored is None or stored.size != size:
            hint = f"PUT {self.address(name)}: {status}, but not all of the {size} bytes are there"
            raise self._client.error(exceptions.TargetUnavailable, operation, hint)

    def move(self, operation: str, source: str, name: str, allow: Collection[int]) -> int:
        """Rename an object; returns the status."""
        headers = {"Destination": self.address(name), "Overwrite": "F"}
        return self._client.request(
            operation, "MOVE", self.address(source), allow, headers=headers, once=True
        ).status

    def delete(self, operation: str, *names: str) -> int:
        """Remove the objects that are there; returns the last status."""
        status = 0
        for name in names:
            status = self._client.request(operation, "DELETE", self.address(name), GONE).status
        return status

    def clean_up(self, *names: str) -> None:
        """Try to remove the objects, for a few seconds, and raise nothing."""
        for name in names:
            try:
                self._client.request(
                    "clean up", "DELETE", self.address(name), GONE, seconds=_CLEAN_UP_SECONDS
                )
            except exceptions.TargetError:
                # What led here is reported, and the core deletes what an attempt has left.
                return

    def make(self, operation: str) -> None:
        """Make the collection and those above it, as far as the server lets us."""
        parts = parse.urlsplit(self.url)
        path = "/"
        for segment in filter(None, parts.path.split("/")):
            path += f"{segment}/"
            url = parts._replace(path=path).geturl()
            # Refused also where it is there already, or is none of ours: the PUT will tell.
            self._client.request(operation, "MKCOL", url, range(200, 500))

    def stat(self, operation: str, name: str) -> Stored | None:
        """The object as HEAD shows it, None where there is none.

        :raises TargetRefused: also where Glance would read other bytes, since they are compressed
        """
        address = self.address(name)
        answer = self._client.request(
            operation, "HEAD", address, (200, 404, 410), headers=self._asked
        )
        if answer.status != 200:
            return None
        if self._asked:
            self._client.require_plain(operation, "HEAD", address, answer.headers)
        size = whole_number(answer.headers.get("Content-Length"))
        if size is None:
            size = self._size_by_range(operation, name)
        return Stored(self.location(name), size, md5(answer.headers.get("Content-MD5")))

    def stat_after(
        self, operation: str, name: str, status: int, size: int | None
    ) -> Stored | None:
        """The object as HEAD shows it after a change that was answered with ``status``.

        Where the server has only accepted it, some seconds may pass.

        :param size: what the object will have, None where it will be gone
        """
        end = time.monotonic() + _ACCEPTED_SECONDS
        while True:
            stored = self.stat(operation, name)
            is_done = (stored.size if stored else None) == size
            if is_done or status != ACCEPTED or time.monotonic() > end:
                return stored
            time.sleep(_ACCEPTED_PAUSE_SECONDS)

    def names(self, operation: str) -> Iterator[str]:
        """The names of all plain members, while the listing comes.

        What cannot be the name of an object of ours is left out.

        :raises TargetUnavailable: also where the listing breaks off, or has no end
        :raises TargetRefused: also where the server cannot list
        """
        headers = {"Depth": "1", "Content-Type": "application/xml"}
        allow = (207, 404, *_NO_PROPFIND)
        with self._client.streaming(
            operation, "PROPFIND", self.url, allow, headers=headers, body=_PROPFIND
        ) as (status, blocks):
            if status == 207:
                names = listings.names_of_multistatus(self._bounded(operation, blocks))
                yield from self._listed(operation, names)
        if status not in (207, 404):
            yield from self._names_of_autoindex(operation)

    def _names_of_autoindex(self, operation: str) -> Iterator[str]:
        begun = False
        try:
            with self._client.streaming(operation, "GET", self.url, (200,)) as (_, blocks):
                begun = True
                names = listings.names_of_autoindex(self._bounded(operation, blocks))
                yield from self._listed(operation, names)
        except (exceptions.ReplicaMissing, exceptions.TargetRefused) as error:
            if begun:
                raise
            raise self._cannot_list(operation, error.hint) from error

    def _listed(self, operation: str, names: Iterator[str]) -> Iterator[str]:
        """The names, unless they are too many, or what is read is no listing."""
        count = 0
        try:
            for name in itertools.islice(names, self.limits.most_names):
                count += 1
                yield name
            if count == self.limits.most_names and next(names, None) is not None:
                raise self._endless(operation, f"more than {count} names")
        except listings.NoListing as error:
            if not count:
                raise self._cannot_list(operation, printable(str(error))) from error
            hint = f"{self.url}: the listing breaks off: {printable(str(error))}"
            raise self._client.error(exceptions.TargetUnavailable, operation, hint) from error

    def _bounded(self, operation: str, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """A listing while it is neither too long nor too slow."""
        limits = self.limits
        end = time.monotonic() + limits.most_seconds
        try:
            for block in bounded_blocks(
                blocks, limits.most_bytes, limits.least_bytes_per_second, limits.grace_seconds
            ):
                if time.monotonic() > end:
                    raise self._endless(operation, f"more than {limits.most_seconds:.0f} s")
                yield block
        except (TooLong, TooSlow) as error:
            raise self._endless(operation, error.hint) from error

    def _endless(self, operation: str, hint: str) -> exceptions.TargetError:
        hint = f"{self.url}: the listing is not read to its end: {hint}"
        return self._client.error(exceptions.TargetUnavailable, operation, hint)

    def _cannot_list(self, operation: str, why: str) -> exceptions.TargetError:
        hint = f"{self.url}: needs PROPFIND, or autoindex_format json of nginx: {why}"
        return self._client.error(exceptions.TargetRefused, operation, hint)

    def _size_by_range(self, operation: str, name: str) -> int:
        """The size where HEAD does not tell it, as Apache does not for empty files."""
        answer = self._client.request(
            operation, "GET", self.address(name), (200, 206, 416), headers={"Range": "bytes=0-0"}
        )
        if answer.status == 200:
            size = whole_number(answer.headers.get("Content-Length"))
        else:
            size = whole_size(answer.headers.get("Content-Range"))
        if size is None:
            hint = f"{self.address(name)}: the server does not tell the size of the object"
            raise self._client.error(exceptions.TargetUnavailable, operation, hint)
        return size


def _quoted(name: str) -> str:
    if name in ("", ".", "..") or "/" in name:
        raise ImproperName(hint=f"{name!r} cannot be the name of an object")
    return parse.quote(name, safe="")
