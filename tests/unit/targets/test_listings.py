# SPDX-License-Identifier: Apache-2.0
"""Listings of any size and oddity are read as they come."""

import itertools
import json
import time
import tracemalloc

import pytest

from glance_repl_mw.exceptions import TargetRefused, TargetUnavailable
from glance_repl_mw.targets import listings
from glance_repl_mw.targets.listings import NoListing, names_of_autoindex, names_of_multistatus
from glance_repl_mw.targets.webdav import ListingLimits
from tests.lab.targets import http_target
from tests.unit.targets.rawweb import raw_server

MIB = 1024**2
HEAD = b'<?xml version="1.0" encoding="utf-8"?>\n<D:multistatus xmlns:D="DAV:">\n'
TAIL = b"</D:multistatus>\n"
ENTRY = (
    '<D:response xmlns:lp1="DAV:"><D:href>/images/{}</D:href><D:propstat><D:prop>'
    "<lp1:resourcetype/></D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat>"
    "</D:response>\n"
)
NAME = "7f2f2b5e-0c7f-4f3b-9d4c-{:012d}.{:032x}.1"


def name(number):
    return NAME.format(number, number)


def multistatus(entries):
    """A listing in blocks of some hundred entries."""
    yield HEAD
    entries = iter(entries)
    while block := "".join(itertools.islice(entries, 300)):
        yield block.encode()
    yield TAIL


def autoindex(entries):
    yield b"[\n"
    before = ""
    entries = iter(entries)
    while block := ",\n".join(itertools.islice(entries, 300)):
        yield (before + block).encode()
        before = ",\n"
    yield b"\n]\n"


def json_entry(number):
    return json.dumps({"name": name(number), "type": "file", "mtime": "Wed", "size": number})


KINDS = {
    "PROPFIND": (names_of_multistatus, multistatus, lambda number: ENTRY.format(name(number))),
    "autoindex": (names_of_autoindex, autoindex, json_entry),
}


@pytest.mark.parametrize("kind", KINDS)
def test_memory_does_not_grow_with_the_listing(kind):
    read, whole, entry = KINDS[kind]
    count = 20_000
    tracemalloc.start()
    try:
        names = read(whole(map(entry, range(count))))
        assert all(found == name(number) for number, found in enumerate(names))
        assert next(names, None) is None
        assert tracemalloc.get_traced_memory()[1] < 2 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_blocks_may_end_anywhere(kind, size):
    read, whole, entry = KINDS[kind]
    data = b"".join(whole(map(entry, range(50))))
    blocks = (data[begin : begin + size] for begin in range(0, len(data), size))
    assert list(read(blocks)) == [name(number) for number in range(50)]


@pytest.mark.parametrize("kind", KINDS)
def test_names_come_before_the_end(kind):
    read, whole, entry = KINDS[kind]
    names = read(whole(map(entry, itertools.count())))
    assert [next(names) for _ in range(1000)] == [name(number) for number in range(1000)]


@pytest.mark.parametrize(
    "href",
    [
        "",
        "  ",
        "/images/",
        "/images/%FF%FE",
        "/images/a%0Ab",
        "/images/%1B%5B31m",
        "/images/%00",
        "/images/a%2Fb",
        "/images/..",
        "/images/%E2%80%AE",
        "http://[/x",
        "/images/" + "x" * 5000,
        "/images/" + "x" * 5_000_000,
        "&#1114111;",
        "/images/c\x7f",
    ],
    ids=range(15),
)
def test_odd_member_of_a_multistatus_stops_nothing(href):
    odd = ENTRY.replace("/images/{}", href)
    names = names_of_multistatus(multistatus([ENTRY.format("a"), odd, ENTRY.format("b")]))
    assert list(names) == ["a", "b"]


@pytest.mark.parametrize(
    "odd",
    [
        "<D:response/>",
        "<D:response><D:status>HTTP/1.1 404</D:status></D:response>",
        "<D:response><D:href><x>deep</x></D:href></D:response>",
        "<D:sync-token>x</D:sync-token>",
        "<D:response><D:href>/images/d/</D:href></D:response>",
        "<!-- <D:response><D:href>/images/c</D:href></D:response> -->",
        "text",
    ],
)
def test_member_without_an_address_stops_nothing(odd):
    names = names_of_multistatus(multistatus([ENTRY.format("a"), odd, ENTRY.format("b")]))
    assert list(names) == ["a", "b"]


@pytest.mark.parametrize(
    "odd",
    [
        '{"type": "file"}',
        '{"name": null, "type": "file"}',
        '{"name": 5, "type": "file"}',
        '{"name": "", "type": "file"}',
        '{"name": "a\\nb", "type": "file"}',
        '{"name": "a\nb", "type": "file"}',
        '{"name": "\\u001b[31m", "type": "file"}',
        '{"name": "\\ud800", "type": "file"}',
        '{"name": "a/b", "type": "file"}',
        '{"name": "..", "type": "file"}',
        '{"name": "}{", "type": "directory"}',
        '{"name": "link", "type": ["x"]}',
        '{"name": "' + "x" * 5000 + '", "type": "file"}',
        '{"name": "/", "type": "file", "size": ' + "9" * 5000 + "}",
        '{"name": "/", "type": "file", "size": 1e999999999, "x": NaN}',
    ],
    ids=range(15),
)
def test_odd_member_of_an_autoindex_stops_nothing(odd):
    first, last = (json.dumps({"name": each, "type": "file"}) for each in "ab")
    assert list(names_of_autoindex(autoindex([first, odd, last]))) == ["a", "b"]


def test_name_that_is_not_utf_8_stops_nothing():
    content = b'{"name":"a","type":"file"},{"name":"\xff\xfe","type":"file"}'
    last = b',{"name":"b","type":"file"}]'
    assert list(names_of_autoindex([b"[", content, last])) == ["a", "b"]


def test_size_of_many_digits_does_not_matter():
    content = b'[{"name":"a","type":"file","size":' + b"9" * 5000 + b"}]"
    assert list(names_of_autoindex([content])) == ["a"]


@pytest.mark.parametrize(
    "blocks",
    [
        [HEAD],
        [HEAD, TAIL[:-5]],
        [HEAD, TAIL, b"<x/>"],
        [b"<D:x xmlns:D='DAV:'></D:x>"],
        [b"<D:collection xmlns:D='DAV:'></D:collection>"],
        [b'<?xml version="1.0" encoding="utf-7"?><x/>'],
        [b'<?xml version="1.0" encoding="no-such"?><x/>'],
        [b"<!DOCTYPE x><x/>"],
        [HEAD, b"<x>" * 1000],
    ],
    ids=range(9),
)
def test_broken_multistatus(blocks):
    with pytest.raises(NoListing):
        list(names_of_multistatus(blocks))


@pytest.mark.parametrize(
    "endless",
    [b"<x y='" + b"z" * 1000, b"<" + b"x" * 1000, b"<!--" + b"x" * 1000, b"<?x " + b"x" * 1000],
    ids=["attribute", "name", "comment", "instruction"],
)
def test_one_element_without_an_end_is_not_kept(endless):
    given = []

    def blocks():
        yield HEAD + endless
        while True:
            given.append(1)
            yield b"x" * 65536

    tracemalloc.start()
    try:
        with pytest.raises(NoListing, match="no end"):
            list(names_of_multistatus(blocks()))
        assert len(given) < 20
    finally:
        tracemalloc.stop()


def test_elements_of_ever_new_names_are_not_kept():
    blocks = (b"<e%d a%d=''/>" % (number, number) for number in itertools.count())
    with pytest.raises(NoListing, match="too many kinds"):
        list(names_of_multistatus(itertools.chain([HEAD], blocks)))


@pytest.mark.parametrize(
    "blocks",
    [
        [b"[", b'{"name": "a", "type": "file"}'],
        [b"[{]"],
        [b"[,]"],
        [b"[" * 100_000],
        [b'[{"a":' + b"[" * 60_000 + b"}"],
        [b"[]x"],
        [b'[{"name": "a", "type": "file"} {"name": "b", "type": "file"}]'],
    ],
    ids=range(7),
)
def test_broken_autoindex(blocks):
    with pytest.raises(NoListing):
        list(names_of_autoindex(blocks))


@pytest.mark.parametrize(
    "endless", [b'[{"name": "', b"[", b"[  "], ids=["text", "nothing", "blanks"]
)
def test_one_entry_without_an_end_is_not_kept(endless):
    given = []

    def blocks():
        yield endless
        while True:
            given.append(1)
            yield b" " * 65536

    with pytest.raises(NoListing, match="no end"):
        list(names_of_autoindex(blocks()))
    assert len(given) < 20


@pytest.fixture
def raw():
    with raw_server() as server:
        yield server


@pytest.fixture
def target(raw):
    target = http_target(raw.url, connect_timeout_seconds=2, stall_timeout_seconds=2)
    yield target
    raw.released.set()
    target.close()


def sending(kind, blocks, pause=0.0):
    """Serve a listing as this kind of server does."""

    def serve(connection):
        connection.read_body()
        if connection.method == "PROPFIND" and kind != "PROPFIND":
            connection.answer("405 No")
            return None
        status = "207 Multi-Status" if kind == "PROPFIND" else "200 OK"
        connection.send(f"HTTP/1.1 {status}\r\n\r\n".encode())
        for block in blocks():
            if connection.server.released.wait(pause):
                break
            connection.send(block)
        return False

    return serve


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("limits", "match"),
    [
        ({"most_names": 5000}, "more than 5000 names"),
        ({"most_bytes": MIB}, "more than 1048576 bytes"),
        ({"most_seconds": 0.3}, "more than 0 s"),
    ],
)
def test_endless_listing_ends_by_a_limit(raw, target, kind, limits, match):
    _, whole, entry = KINDS[kind]
    raw.serve = sending(kind, lambda: whole(map(entry, itertools.count())))
    target._collection.limits = ListingLimits(**limits)
    begin = time.monotonic()
    with pytest.raises(TargetUnavailable, match=f"not read to its end: .*{match}") as caught:
        for _ in target.list():
            pass
    assert (caught.value.target, caught.value.operation) == ("site", "list")
    assert time.monotonic() - begin < 20


@pytest.mark.parametrize("kind", KINDS)
def test_listing_that_drips_ends(raw, target, kind):
    _, whole, entry = KINDS[kind]
    raw.serve = sending(kind, lambda: whole(map(entry, itertools.count())), pause=0.3)
    target._collection.limits = ListingLimits(
        least_bytes_per_second=10**7, grace_seconds=0.5, most_seconds=10
    )
    with pytest.raises(TargetUnavailable, match="too slowly"):
        list(target.list())


@pytest.mark.parametrize("kind", KINDS)
def test_listing_of_exactly_the_most_names_is_whole(raw, target, kind):
    _, whole, entry = KINDS[kind]
    raw.serve = sending(kind, lambda: whole(map(entry, range(1000))))
    target._collection.limits = ListingLimits(most_names=1000)
    assert list(target.list()) == [name(number) for number in range(1000)]


@pytest.mark.parametrize("kind", KINDS)
def test_listing_that_breaks_off_is_no_listing(raw, target, kind):
    _, whole, entry = KINDS[kind]
    raw.serve = sending(kind, lambda: list(whole(map(entry, range(1000))))[:-1])
    with pytest.raises(TargetUnavailable, match="breaks off"):
        list(target.list())


def test_server_that_cannot_list(raw, target):
    raw.serve = lambda connection: (
        connection.answer("405 No")
        if connection.read_body()
        else (connection.answer("200 OK", body=b"<html>\x1b[31m an index</html>"))
    )
    with pytest.raises(TargetRefused, match="needs PROPFIND, or autoindex_format json") as caught:
        list(target.list())
    assert str(caught.value).isprintable()


def test_reading_may_end_early_without_harm(raw, target):
    _, whole, entry = KINDS["PROPFIND"]
    raw.serve = sending("PROPFIND", lambda: whole(map(entry, itertools.count())))
    names = target.list()
    assert next(names) == name(0)
    names.close()
    raw.serve = sending("PROPFIND", lambda: whole(map(entry, range(2))))
    assert list(target.list()) == [name(0), name(1)]


def test_proper_names():
    assert listings.proper("a") and listings.proper("x" * 1024)
    assert not any(map(listings.proper, ("", ".", "..", "a/b", "a\n", "x" * 1025)))
