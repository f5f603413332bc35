# SPDX-License-Identifier: Apache-2.0
"""Reads the names of a collection's plain members while the listing comes, whatever its size.

Each reader holds one member at a time. What cannot be the name of an object of ours is left out:
no member stops the listing of the others.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib import parse
from xml.parsers import expat

_MOST_NAME_CHARACTERS = 1024
_MOST_TEXT_CHARACTERS = 8 * 1024
_MOST_ELEMENT_BYTES = 64 * 1024
_MOST_DEPTH = 32
# WebDAV needs a dozen. Expat never forgets one.
_MOST_DISTINCT_NAMES = 256
_ROOT, _RESPONSE, _HREF = "DAV: multistatus", "DAV: response", "DAV: href"
_RESOURCE_TYPE, _COLLECTION = "DAV: resourcetype", "DAV: collection"
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._/~-]*")
_BLANKS = re.compile(r"[ \t\r\n]*")


class NoListing(ValueError):
    """What came is something else, or broken."""


def names_of_multistatus(blocks: Iterable[bytes]) -> Iterator[str]:
    """The names of the plain members in a WebDAV multistatus answer.

    :raises NoListing:
    """
    parser = _Multistatus()
    for block in blocks:
        yield from parser.feed(block)
    yield from parser.end()


def names_of_autoindex(blocks: Iterable[bytes]) -> Iterator[str]:
    """The names of the plain members in what nginx gives with ``autoindex_format json``.

    :raises NoListing:
    """
    parser = _Autoindex()
    for block in blocks:
        yield from parser.feed(block)
    parser.end()


def proper(name: str) -> bool:
    """Whether an object of ours could have this name."""
    is_short = 0 < len(name) <= _MOST_NAME_CHARACTERS
    return is_short and name.isprintable() and "/" not in name and name not in (".", "..")


class _Multistatus:
    """Takes no document type, so that no entity can be declared."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._path: list[str] = []
        self._begin_response()
        self._seen: set[str] = set()
        self._fed = 0
        self._parser = parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.StartNamespaceDeclHandler = self._namespace
        parser.StartDoctypeDeclHandler = self._doctype

    def feed(self, block: bytes) -> list[str]:
        """The names that are whole now."""
        view = memoryview(block)
        for begin in range(0, len(block), _MOST_ELEMENT_BYTES):
            self._parse(view[begin : begin + _MOST_ELEMENT_BYTES].tobytes())
        return self._whole()

    def end(self) -> list[str]:
        self._parse(b"", is_last=True)
        return self._whole()

    def _whole(self) -> list[str]:
        names, self._names = self._names, []
        return names

    def _parse(self, data: bytes, is_last: bool = False) -> None:
        try:
            self._parser.Parse(data, is_last)
        except NoListing:
            raise
        except (expat.ExpatError, LookupError, ValueError) as error:
            raise NoListing(f"not a listing: {error}") from None
        self._parser.intern.clear()
        self._fed += len(data)
        # Expat keeps the beginning of what is not whole, and some more before it looks again.
        if self._fed - max(0, self._parser.CurrentByteIndex) > 4 * _MOST_ELEMENT_BYTES:
            raise NoListing("not a listing: one element has no end")

    def _begin_response(self) -> None:
        self._hrefs = 0
        self._href: list[str] = []
        self._href_characters = 0
        self._is_collection = False

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        path = self._path
        path.append(name)
        depth = len(path)
        if name not in self._seen or attributes:
            self._count(name, *attributes)
        if depth == 2:
            if name == _RESPONSE:
                self._begin_response()
        elif depth == 3:
            if name == _HREF and path[1] == _RESPONSE:
                self._hrefs += 1
                if self._hrefs == 1:
                    self._parser.CharacterDataHandler = self._text
        elif depth == 1:
            if name != _ROOT:
                raise NoListing("not a listing: no multistatus")
        elif name == _COLLECTION and path[-2] == _RESOURCE_TYPE:
            self._is_collection = True
        elif depth > _MOST_DEPTH:
            raise NoListing("not a listing: too deep")

    def _end(self, element: str) -> None:
        depth = len(self._path)
        if depth == 2 and element == _RESPONSE:
            name = _name_in("".join(self._href))
            if name and not self._is_collection:
                self._names.append(name)
        elif depth == 3 and element == _HREF:
            self._parser.CharacterDataHandler = None
        self._path.pop()

    def _text(self, text: str) -> None:
        # That of elements within the address is none of it.
        if len(self._path) == 3 and self._href_characters <= _MOST_TEXT_CHARACTERS:
            self._href_characters += len(text)
            self._href.append(text)

    def _namespace(self, prefix: str | None, _uri: str) -> None:
        self._count(f"xmlns:{prefix}")

    def _doctype(self, *_declaration: Any) -> None:
        raise NoListing("a document type is not expected")

    def _count(self, *names: str) -> None:
        self._seen.update(names)
        if len(self._seen) > _MOST_DISTINCT_NAMES:
            raise NoListing("not a listing: too many kinds of elements")


def _name_in(href: str) -> str | None:
    """The name at the end of the address of a member, None where it is no proper one."""
    if len(href) > _MOST_TEXT_CHARACTERS:
        return None
    href = href.strip()
    try:
        # Most are paths without anything that needs to be looked at closely.
        path = href if _PLAIN_PATH.fullmatch(href) else parse.urlsplit(href).path
        name = parse.unquote(path.rpartition("/")[2], errors="strict")
    except ValueError:
        return None
    return name if proper(name) else None


class _Autoindex:
    """A list of flat objects in JSON, one after the other."""

    def __init__(self) -> None:
        # Numbers are not looked at: Python may need long for those of many digits, or refuse.
        self._json = json.JSONDecoder(
            parse_int=_ignored, parse_float=_ignored, parse_constant=_ignored, strict=False
        )
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._text = ""
        self._expected = "["

    def feed(self, block: bytes) -> Iterator[str]:
        """The names that are whole now."""
        self._text += self._decode(block)
        position = 0
        while (after := self._take(position)) is not None:
            position, entry = after
            name = _name_of_entry(entry)
            if name:
                yield name
        self._text = self._text[position:]
        if len(self._text) > _MOST_ELEMENT_BYTES:
            raise NoListing("not a listing: one entry has no end")

    def end(self) -> None:
        if self._expected:
            raise NoListing("not a listing: it ends too early")

    def _take(self, position: int) -> tuple[int, Any] | None:
        """What comes next, and where it ends; None where it is not whole yet.

        An entry, or None for a mark between two.
        """
        found = _BLANKS.match(self._text, position)
        begin = found.end() if found else position
        if begin == len(self._text):
            return None
        if not self._expected:
            raise NoListing("not a listing: something follows its end")
        character = self._text[begin]
        if character == "{" and "{" in self._expected:
            return self._entry(begin)
        if character not in self._expected:
            raise NoListing(f"not a listing: {character!r} instead of one of {self._expected!r}")
        self._expected = {"[": "{]", ",": "{", "]": ""}[character]
        return begin + 1, None

    def _entry(self, begin: int) -> tuple[int, Any] | None:
        if self._text.find("}", begin) < 0:
            return None
        try:
            entry, end = self._json.raw_decode(self._text, begin)
        except RecursionError:
            raise NoListing("not a listing: too deep") from None
        except ValueError:
            if len(self._text) - begin > _MOST_ELEMENT_BYTES:
                raise NoListing("not a listing: an entry is broken") from None
            return None
        self._expected = ",]"
        return end, entry


def _name_of_entry(entry: Any) -> str | None:
    """The name of a plain member; None for another, and for what is no proper name.

    A name that was not UTF-8 has a mark where it could not be decoded.
    """
    if entry is None or entry.get("type") == "directory":
        return None
    if "type" not in entry:
        raise NoListing("not a listing: an entry without a type")
    name = entry.get("name")
    is_plain = entry["type"] == "file" and isinstance(name, str)
    return name if is_plain and "\ufffd" not in name and proper(name) else None


def _ignored(_number: str) -> None:
    return None
