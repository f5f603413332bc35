# SPDX-License-Identifier: Apache-2.0
"""What Glance reads reaches the sink, and nothing that the source does is changed."""

import io

import pytest

from glance_repl_mw.tee import ChunkedInput, TeeInput, tee

BODY = b"first line\nsecond\n\nlast without end"


@pytest.fixture
def teed():
    return bytearray()


def read_in_pieces(file, size):
    return b"".join(iter(lambda: file.read(size), b""))


@pytest.mark.parametrize(
    "read",
    [
        lambda file: file.read(),
        lambda file: file.read(-1),
        lambda file: read_in_pieces(file, 7),
        lambda file: b"".join(iter(file.readline, b"")),
        lambda file: b"".join(iter(lambda: file.readline(3), b"")),
        lambda file: b"".join(file.readlines()),
        lambda file: b"".join(file),
    ],
    ids=["read()", "read(-1)", "read(7)", "readline()", "readline(3)", "readlines()", "iteration"],
)
@pytest.mark.parametrize("chunk", [None, 1, 5, 1000], ids="chunks of {}".format)
def test_every_way_to_read_gives_the_body_and_tees_it_once(read, chunk, teed):
    file = io.BytesIO(BODY)
    source = file if chunk is None else ChunkedInput(lambda: file.read(chunk))
    assert read(TeeInput(source, teed.extend)) == BODY
    assert bytes(teed) == BODY


def test_short_reads_pass_on_short(teed):
    class Short:
        def read(self, size):
            return b"ab"

    assert TeeInput(Short(), teed.extend).read(10) == b"ab"
    assert teed == b"ab"


def test_errors_pass_on_unchanged(teed):
    error = OSError("client left")

    class Broken:
        def read(self, size):
            raise error

    with pytest.raises(OSError, match="client left") as raised:
        TeeInput(Broken(), teed.extend).read(10)
    assert raised.value is error
    assert not teed


def test_close_reaches_a_source_that_has_it(teed):
    source = io.BytesIO(BODY)
    TeeInput(source, teed.extend).close()
    assert source.closed
    TeeInput(object(), teed.extend).close()


def test_chunked_input_reads_no_further_than_asked_for():
    chunks = iter([b"abc", b"def", b""])
    source = ChunkedInput(lambda: next(chunks))
    assert source.read(0) == b""
    assert source.read(2) == b"ab"
    assert source.read(1) == b"c"
    assert next(chunks) == b"def"


def test_chunked_input_asks_no_more_after_the_end():
    chunks = iter([b"abc", b""])
    source = ChunkedInput(lambda: next(chunks))
    assert source.read(10) == b"abc"
    assert source.read(10) == b""
    assert source.readline() == b""
    assert source.readlines() == []


def test_readlines_stops_at_its_hint():
    file = io.BytesIO(b"one\ntwo\nthree\n")
    assert ChunkedInput(lambda: file.read(4)).readlines(5) == [b"one\n", b"two\n"]


def test_a_source_that_can_only_be_iterated_offers_nothing_else():
    seen = []
    proxy = tee(iter([b"one", b"", b"two"]), seen.append)
    assert not hasattr(proxy, "read")
    assert list(proxy) == [b"one", b"", b"two"]
    assert seen == [b"one", b"two"]


def test_a_source_that_can_be_read_stays_a_file():
    seen = []
    assert tee(io.BytesIO(b"body"), seen.append).read() == b"body"
    assert seen == [b"body"]
