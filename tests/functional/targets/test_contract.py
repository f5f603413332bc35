# SPDX-License-Identifier: Apache-2.0
"""What every target driver does, shown on real servers."""

import os
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from glance_repl_mw.exceptions import ReplicaMissing, TargetUnavailable, UploadCut

SIZES = [0, 1, 64 * 1024 - 1, 5 * 1024**2 + 1]
MIB = 1024**2


@pytest.fixture
def name():
    return f"{uuid.uuid4()}.{uuid.uuid4()}.1"


def put(target, name, body, size):
    with body.reader() as reader:
        return target.put(name, reader, size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("known", [True, False], ids=["length", "chunked"])
def test_put_stores_the_bytes(place, name, make_body, size, known):
    content = os.urandom(size)
    stored = put(place.target, name, make_body(content), size if known else None)
    assert place.read(name) == content
    assert stored.size == size
    assert stored.location_url.endswith(f"/{name}")
    assert stored == place.target.stat(name)
    assert b"".join(place.target.open(name)) == content


@pytest.mark.parametrize("known", [True, False], ids=["length", "chunked"])
def test_put_follows_a_body_that_grows(place, name, make_body, known):
    content = os.urandom(5 * MIB + 1)
    body = make_body()
    with ThreadPoolExecutor() as pool, body.reader() as reader:
        putting = pool.submit(place.target.put, name, reader, len(content) if known else None)
        for begin in range(0, len(content), MIB):
            body.append(content[begin : begin + MIB])
            reader.wait_for_offset(body.size)
            assert not putting.done()
        body.finish()
        assert putting.result().size == len(content)
    assert place.read(name) == content


@pytest.mark.parametrize("known", [True, False], ids=["length", "chunked"])
@pytest.mark.parametrize("sent", [0, 1, 3 * MIB])
def test_cut_upload_leaves_nothing(place, name, make_body, known, sent):
    neighbour = make_body(b"a neighbour")
    put(place.target, f"{name}-neighbour", neighbour, neighbour.size)
    before = place.objects()
    body = make_body()
    with ThreadPoolExecutor() as pool, body.reader() as reader:
        putting = pool.submit(place.target.put, name, reader, 5 * MIB if known else None)
        body.append(os.urandom(sent))
        reader.wait_for_offset(sent)
        body.cut()
        with pytest.raises(UploadCut):
            putting.result()
    assert place.objects() == before
    assert place.target.stat(name) is None


@pytest.mark.parametrize("announced", [99_999, 100_001])
def test_wrong_size_leaves_nothing(place, name, make_body, announced):
    before = place.objects()
    with pytest.raises(TargetUnavailable, match=f"{announced} bytes were announced"):
        put(place.target, name, make_body(bytes(100_000)), announced)
    assert place.objects() == before


def test_many_threads_put_at_once(place, name, make_body):
    contents = {f"{name}-{number}": os.urandom(MIB + number) for number in range(8)}
    bodies = {each: make_body(content) for each, content in contents.items()}
    with ThreadPoolExecutor(8) as pool:
        stored = pool.map(
            lambda each: put(place.target, each, bodies[each], bodies[each].size), contents
        )
        assert [each.size for each in stored] == [len(each) for each in contents.values()]
    assert {each: place.read(each) for each in contents} == contents


def test_names_are_taken_as_they_are(place, make_body):
    name = f"{uuid.uuid4()} a+b&ä"
    put(place.target, name, make_body(b"abc"), 3)
    assert place.read(name) == b"abc"
    assert name in list(place.target.list())
    place.target.delete(name)
    assert place.target.stat(name) is None


def test_missing_object(place, name):
    assert place.target.stat(name) is None
    with pytest.raises(ReplicaMissing) as caught:
        place.target.open(name)
    assert caught.value.target == "site"
    assert caught.value.operation == "open"


@pytest.mark.parametrize("offset", [0, 1, 99_999])
def test_open_begins_at_an_offset(place, name, make_body, offset):
    content = os.urandom(100_000)
    put(place.target, name, make_body(content), len(content))
    assert b"".join(place.target.open(name, offset)) == content[offset:]


def test_delete_removes_finished_and_unfinished_and_may_be_repeated(place, name, make_body):
    put(place.target, name, make_body(b"abc"), 3)
    (place.root / f"{name}.partial").write_bytes(b"ab")
    for _ in range(2):
        place.target.delete(name)
        assert not {name, f"{name}.partial"} & set(place.objects())
        assert place.target.stat(name) is None


def test_list_gives_all_objects(place, name, make_body):
    put(place.target, name, make_body(b"abc"), 3)
    (place.root / f"{name}.partial").write_bytes(b"ab")
    names = list(place.target.list())
    assert {name, f"{name}.partial"} <= set(names)
    assert sorted(names) == sorted(place.objects())


def test_check_says_what_is_worth_a_remark_and_leaves_nothing(place):
    before = place.objects()
    assert list(place.target.check()) == place.remarks
    assert place.objects() == before


def test_probe_finds_what_is_there_and_misses_what_is_not(place, name, make_body):
    put(place.target, name, make_body(b"abc"), 3)
    before = place.objects()
    place.target.probe(None)
    place.target.probe(name)
    with pytest.raises(ReplicaMissing):
        place.target.probe(f"{name}-missing")
    assert place.objects() == before
