"""One collection of an HTTP server: the requests that are not the upload of an image.

Only PUT, HEAD, GET and DELETE are expected of every server; the rest is tried.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Collection, Sequence
from typing import NoReturn
from urllib import parse
from xml.etree import ElementTree

from glance_repl_mw import exceptions
from glance_repl_mw.model import Stored
from glance_repl_mw.signing import Signer
from glance_repl_mw.targets.httpclient import Client

WRITTEN = (200, 201, 204)
GONE = (200, 204, 404, 410)
_NOT_THERE = (404, 410)
_NO_PROPFIND = (400, 403, 405, 415, 501)
_CLEAN_UP_SECONDS = 5.0
_PROPFIND = b'<?xml version="1.0"?><propfind xmlns="DAV:"><prop><resourcetype/></prop></propfind>'


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
        self._client = client

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

    def read(self, operation: str, name: str, most_bytes: int) -> bytes | None:
        """The beginning of a small object, None where there is none."""
        answer = self._client.request(
            operation, "GET", self.address(name), (200, *_NOT_THERE), once=True
        )
        return answer.content[:most_bytes] if answer.status == 200 else None

    def move(self, operation: str, source: str, name: str, allow: Collection[int]) -> int:
        """Rename an object; returns the status."""
        headers = {"Destination": self.address(name), "Overwrite": "F"}
        return self._client.request(
            operation, "MOVE", self.address(source), allow, headers=headers, once=True
        ).status

    def delete(self, operation: str, *names: str) -> None:
        """Remove the objects that are there."""
        for name in names:
            self._client.request(operation, "DELETE", self.address(name), GONE)

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
        """The object as HEAD shows it, None where there is none."""
        answer = self._client.request(operation, "HEAD", self.address(name), (200, 404, 410))
        if answer.status != 200:
            return None
        length = answer.headers.get("Content-Length", "")
        size = int(length) if length.isdecimal() else self._size_by_range(operation, name)
        return Stored(self.location(name), size, _md5(answer.headers.get("Content-MD5", "")))

    def names(self, operation: str) -> Sequence[str]:
        """The names of all plain members.

        :raises TargetRefused: also where the server cannot list
        """
        headers = {"Depth": "1", "Content-Type": "application/xml"}
        answer = self._client.request(
            operation,
            "PROPFIND",
            self.url,
            (207, 404, *_NO_PROPFIND),
            headers=headers,
            body=_PROPFIND,
            whole=True,
        )
        if answer.status == 404:
            return []
        try:
            if answer.status == 207:
                return names_of_multistatus(answer.content)
            answer = self._client.request(operation, "GET", self.url, (200,), whole=True)
            return names_of_autoindex(answer.content)
        except (ValueError, exceptions.ReplicaMissing, exceptions.TargetRefused) as error:
            why = getattr(error, "hint", error)
            hint = f"{self.url}: needs PROPFIND, or autoindex_format json of nginx: {why}"
            raise self._client.error(exceptions.TargetRefused, operation, hint) from error

    def _size_by_range(self, operation: str, name: str) -> int:
        """The size where HEAD does not tell it, as Apache does not for empty files."""
        answer = self._client.request(
            operation, "GET", self.address(name), (200, 206, 416), headers={"Range": "bytes=0-0"}
        )
        if answer.status == 200:
            size = answer.headers.get("Content-Length", "")
        else:
            size = answer.headers.get("Content-Range", "").rpartition("/")[2]
        if not size.isdecimal():
            hint = f"{self.address(name)}: the server does not tell the size of the object"
            raise self._client.error(exceptions.TargetUnavailable, operation, hint)
        return int(size)


class _Builder(ElementTree.TreeBuilder):
    """Takes no document type, so that no entity can be declared."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        raise ValueError("a document type is not expected")


def names_of_multistatus(content: bytes) -> list[str]:
    """The names of the plain members in a WebDAV multistatus answer.

    :raises ValueError: it is something else
    """
    try:
        tree = ElementTree.fromstring(content, ElementTree.XMLParser(target=_Builder()))
    except ElementTree.ParseError as error:
        raise ValueError(f"not a listing: {error}") from error
    names = []
    for response in tree.iterfind("{DAV:}response"):
        path = parse.urlsplit(response.findtext("{DAV:}href", "").strip()).path
        collection = response.find(".//{DAV:}resourcetype/{DAV:}collection") is not None
        if not collection and not path.endswith("/"):
            names.append(parse.unquote(path.rpartition("/")[2]))
    return names


def names_of_autoindex(content: bytes) -> list[str]:
    """The names of the plain members in what nginx gives with ``autoindex_format json``.

    :raises ValueError: it is something else
    """
    try:
        return [entry["name"] for entry in json.loads(content) if entry["type"] == "file"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a listing: {error!r}") from error


def _quoted(name: str) -> str:
    if name in ("", ".", "..") or "/" in name:
        raise ValueError(f"{name!r} cannot be the name of an object")
    return parse.quote(name, safe="")


def _md5(header: str) -> str | None:
    """The hex form of a Content-MD5 header, None where it is not one."""
    try:
        digest = base64.b64decode(header, validate=True)
    except binascii.Error:
        return None
    return digest.hex() if len(digest) == 16 else None
