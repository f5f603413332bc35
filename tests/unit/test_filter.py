# SPDX-License-Identifier: Apache-2.0
"""What the filter does to a request, an answer and the spool, with applications of our own."""

import errno
import fcntl
import io
import os
import sys

import pytest
import webob
from glance import image_cache
from glance.common import wsgi
from oslo_config import cfg

from glance_repl_mw import bodies, exceptions, images, opts
from glance_repl_mw import filter as replication
from glance_repl_mw.db import schema
from glance_repl_mw.own_requests import HEADER, NO_CACHE, OwnRequests
from glance_repl_mw.routes import ROUTED
from glance_repl_mw.spool import behind
from glance_repl_mw.spool.appender import Appender
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.spool.upload import Origin, UploadState
from tests.lab.process import wait_until

IMAGE = "6f1f5a5e-1c0d-4d7e-9d0b-0c5f4d1f0a11"
IMAGE_PATH = f"/v2/images/{IMAGE}"
PATH = f"{IMAGE_PATH}/file"
STAGE = f"{IMAGE_PATH}/stage"
CHANGES = [
    f"PATCH {IMAGE_PATH}",
    f"DELETE {IMAGE_PATH}",
    f"POST {IMAGE_PATH}/import",
    f"DELETE /v2/stores/second/{IMAGE}",
    f"PUT {IMAGE_PATH}/tags/one",
]
BODY = b"some bytes of an image" * 1000
CONFIG = """
[replication]
enabled_targets = site-a:http
spool_dir = {spool}
spool_min_free_bytes = 0
writer = external
[replication:site-a]
url = http://127.0.0.1:1/images/
"""


@pytest.fixture
def spool(tmp_path):
    return Spool(str(tmp_path / "spool"))


@pytest.fixture
def filtered(tmp_path, spool):
    """Put the filter, with these further options, before an application."""

    def wrap(application, more=""):
        config = tmp_path / "replication.conf"
        text = CONFIG.format(spool=spool.directory)
        config.write_text(text.replace("[replication:site-a]", f"{more}\n[replication:site-a]"))
        return replication.filter_factory({}, config_file=str(config))(application)

    return wrap


class Glance:
    """An application that reads the body as Glance does, and answers."""

    def __init__(self, status="204 No Content", headers=(), before_answer=lambda: None):
        self.status = status
        self.headers = list(headers)
        self.body = None
        self.environ = None
        self._before_answer = before_answer

    def __call__(self, environ, start_response):
        self.environ = environ
        self.body = read_in_pieces(wsgi.Request(environ).body_file)
        self._before_answer()
        start_response(self.status, self.headers)
        return []


def read_in_pieces(file):
    return b"".join(iter(lambda: file.read(4096), b""))


def environ_of(body=BODY, path=PATH, method="PUT", **more):
    environ = webob.Request.blank(path, method=method).environ
    environ["wsgi.input"] = io.BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))
    environ.update(more)
    return {name: value for name, value in environ.items() if value is not None}


def call(application, environ):
    """Serve one request; return status and headers as the server gets them, and the body."""
    answer = []

    def start_response(status, headers, exc_info=None):
        answer[:] = [status, headers]

    result = application(environ, start_response)
    body = b"".join(result)
    getattr(result, "close", lambda: None)()
    return (*answer, body)


def only(spool):
    (upload,) = spool.uploads()
    return upload


def data(spool):
    return spool.data_path(only(spool).upload_id).read_bytes()


def names(spool):
    return {path.suffix for path in spool.directory.iterdir()}


# Uploads


def test_an_accepted_upload_is_in_the_spool(filtered, spool):
    glance = Glance()
    assert call(filtered(glance), environ_of())[0] == "204 No Content"
    assert glance.body == BODY
    upload = only(spool)
    assert (upload.image_id, upload.state) == (IMAGE, UploadState.ACCEPTED)
    assert (upload.size, upload.received, upload.error) == (len(BODY), len(BODY), None)
    assert data(spool) == BODY
    assert not spool.is_abandoned(upload)


def test_a_body_that_a_filter_before_has_made_seekable_is_spooled(filtered, spool):
    glance = Glance()
    request = webob.Request(environ_of())
    request.body = BODY
    # As filters built on WebOb call the next one, which seeks where that is said to work.
    nested = filtered(
        lambda environ, start: webob.Request(environ).get_response(glance)(environ, start)
    )
    assert request.get_response(nested).status_int == 204
    assert glance.body == BODY
    assert data(spool) == BODY


def test_the_acceptance_is_recorded_before_the_uploader_sees_it(filtered, spool):
    states = []
    application = filtered(Glance(before_answer=lambda: states.append(only(spool).state)))
    application(environ_of(), lambda *_: states.append(only(spool).state))
    assert states == [UploadState.RECEIVING, UploadState.ACCEPTED]


def test_the_body_is_in_the_spool_while_it_is_read(filtered, spool):
    def glance(environ, start_response):
        environ["wsgi.input"].read(5)
        wait_until(lambda: data(spool) == BODY[:5], 60, "the bytes are in the spool")
        assert only(spool).state is UploadState.RECEIVING
        assert not spool.is_abandoned(only(spool))
        return Glance()(environ, start_response)

    environ = environ_of(CONTENT_LENGTH=None, **{"wsgi.input_terminated": True})
    call(filtered(glance), environ)
    assert data(spool) == BODY


@pytest.mark.parametrize("status", ["400 Bad", "404 No", "413 Too Large", "500 Oh", "304 Same"])
def test_of_a_refused_upload_only_the_word_stays(filtered, spool, status):
    assert call(filtered(Glance(status)), environ_of())[0] == status
    assert only(spool).state is UploadState.REJECTED
    assert names(spool) == {".json"}


def test_a_refusal_before_the_body_is_read_leaves_nothing(filtered, spool):
    def glance(environ, start_response):
        start_response("403 Forbidden", [("X-Reason", "policy")])
        return [b"no"]

    answer = ("403 Forbidden", [("X-Reason", "policy")], b"no")
    assert call(filtered(glance), environ_of()) == answer
    assert names(spool) == set()


def test_an_empty_image_is_in_the_spool_as_empty(filtered, spool):
    call(filtered(Glance()), environ_of(b""))
    upload = only(spool)
    assert (upload.state, upload.size, upload.received) == (UploadState.ACCEPTED, 0, 0)


@pytest.mark.parametrize("error", [OSError("client left"), ValueError("?"), SystemExit(1)])
def test_what_the_application_raises_passes_on(filtered, spool, error):
    def glance(environ, start_response):
        environ["wsgi.input"].read(5)
        raise error

    with pytest.raises(type(error)) as raised:
        call(filtered(glance), environ_of())
    assert raised.value is error
    assert only(spool).state is UploadState.REJECTED
    assert names(spool) == {".json"}


def test_an_error_of_the_input_reaches_the_application(filtered, spool):
    error = OSError("the client has left")

    class Broken(io.BytesIO):
        def read(self, *size):
            if self.tell():
                raise error
            return super().read(5)

    def glance(environ, start_response):
        file = environ["wsgi.input"]
        assert file.read(10) == BODY[:5]
        with pytest.raises(OSError, match="left") as raised:
            file.read(10)
        assert raised.value is error
        start_response("500 Oh", [])
        return []

    environ = environ_of()
    environ["wsgi.input"] = Broken(BODY)
    assert call(filtered(glance), environ)[0] == "500 Oh"
    assert only(spool).state is UploadState.REJECTED


def test_the_answer_passes_unchanged(filtered):
    headers = [("X-One", "1"), ("Set-Cookie", "a"), ("Set-Cookie", "b"), ("x-two", "2")]

    class Answer(list):
        closed = False

        def close(self):
            self.closed = True

    body = Answer([b"first ", b"second"])

    def glance(environ, start_response):
        read_in_pieces(environ["wsgi.input"])
        start_response("299 Whatever", headers)
        return body

    assert call(filtered(glance), environ_of()) == ("299 Whatever", headers, b"first second")
    assert body.closed


def test_two_attempts_at_one_image_share_nothing(filtered, spool):
    application = filtered(Glance())
    for body in (b"one", b"two"):
        call(application, environ_of(body))
    first, second = spool.uploads()
    assert first.upload_id != second.upload_id
    contents = {spool.data_path(upload.upload_id).read_bytes() for upload in (first, second)}
    assert contents == {b"one", b"two"}


# Bodies without a length


def gunicorn(body=BODY, **more):
    return environ_of(
        body,
        CONTENT_LENGTH=None,
        HTTP_TRANSFER_ENCODING="chunked",
        **{"wsgi.input_terminated": True},
        **more,
    )


def test_a_chunked_body_of_a_server_that_decodes_it(filtered, spool):
    glance = Glance()
    call(filtered(glance), gunicorn())
    assert glance.body == BODY
    assert glance.environ["HTTP_TRANSFER_ENCODING"] == "chunked"
    assert data(spool) == BODY
    assert only(spool).size is None


class Uwsgi:
    """The module that uWSGI gives to an application, for a body in these chunks."""

    def __init__(self, *chunks):
        self.chunks = list(chunks)

    def chunked_read(self):
        chunk = self.chunks.pop(0) if self.chunks else b""
        if isinstance(chunk, Exception):
            raise chunk
        return chunk


def uwsgi_environ(**more):
    return environ_of(b"", HTTP_TRANSFER_ENCODING="Chunked", **{"CONTENT_LENGTH": "", **more})


@pytest.fixture
def under_uwsgi(monkeypatch):
    """Let the server be uWSGI, which has these chunks for Glance."""

    def serve(*chunks):
        uwsgi = Uwsgi(*chunks)
        monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
        monkeypatch.setattr(bodies, "uwsgi", uwsgi)
        return uwsgi

    return serve


def test_a_chunked_body_of_uwsgi(filtered, spool, under_uwsgi):
    uwsgi = under_uwsgi(BODY[:1], BODY[1:9000], BODY[9000:], b"")
    glance = Glance()
    environ = uwsgi_environ()
    before = dict(environ)
    call(filtered(glance), environ)
    assert glance.body == BODY
    assert data(spool) == BODY
    assert uwsgi.chunks == []
    # Half of what a request says, changed, says something else.
    assert {name: environ[name] for name in before} == before


@pytest.mark.parametrize("length", ["10", "0", str(len(BODY)), "9" * 30])
def test_a_length_beside_chunks_is_for_glance_to_judge(filtered, spool, under_uwsgi, length):
    under_uwsgi(BODY, b"")
    glance = Glance()
    call(filtered(glance), uwsgi_environ(CONTENT_LENGTH=length))
    assert glance.environ["CONTENT_LENGTH"] == length
    assert glance.body == BODY
    assert data(spool) == BODY
    assert only(spool).size is None


def test_a_chunked_body_of_uwsgi_that_breaks_off(filtered, spool, under_uwsgi):
    error = OSError("unable to receive chunked part")
    under_uwsgi(BODY[:5000], error)
    with pytest.raises(OSError, match="unable") as raised:
        call(filtered(Glance()), uwsgi_environ())
    assert raised.value is error
    assert only(spool).state is UploadState.REJECTED


def test_a_body_with_a_length_is_not_read_by_chunks(filtered, spool, under_uwsgi):
    under_uwsgi()
    call(filtered(Glance()), environ_of())
    assert data(spool) == BODY


def test_a_chunked_body_that_is_not_read_stays_unread(filtered, spool, under_uwsgi):
    uwsgi = under_uwsgi(BODY, b"")

    def glance(environ, start_response):
        start_response("409 Conflict", [])
        return []

    call(filtered(glance), uwsgi_environ())
    assert uwsgi.chunks == [BODY, b""]
    assert names(spool) == set()


@pytest.mark.parametrize(
    ("announced", "size"),
    [
        ("22000", 22000),
        *dict.fromkeys([None, "", "x", "-1", "1e5", "9" * 5000, "\u0661", str(2**63)]).items(),
    ],
)
def test_the_size_of_a_chunked_body_is_what_the_client_says(filtered, spool, announced, size):
    call(filtered(Glance()), gunicorn(HTTP_X_OPENSTACK_IMAGE_SIZE=announced))
    assert only(spool).size == size


def test_the_length_of_the_body_wins_over_the_announced_size(filtered, spool):
    call(filtered(Glance()), environ_of(HTTP_X_OPENSTACK_IMAGE_SIZE="1"))
    assert only(spool).size == len(BODY)


# A spool that fails


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def served_unspooled(filtered, spool, more="", body=BODY):
    glance = Glance()
    assert call(filtered(glance, more), environ_of(body)) == ("204 No Content", [], b"")
    assert glance.body == body


def test_an_upload_goes_on_when_the_spool_is_full(filtered, spool):
    served_unspooled(filtered, spool, "spool_max_bytes = 10")
    upload = only_accepted(spool)
    assert "spool_max_bytes (10) is reached" in upload.error
    assert not list(spool.directory.glob("*.data"))


def only_accepted(spool):
    (upload,) = (u for u in spool.uploads() if u.state is UploadState.ACCEPTED)
    assert upload.image_id == IMAGE
    return upload


@pytest.mark.parametrize("method", ["__init__", "append", "accept"])
@pytest.mark.parametrize("error", [full, lambda *_: 1 / 0], ids=["full", "a bug of ours"])
def test_an_upload_goes_on_when_the_spool_fails(filtered, spool, monkeypatch, method, error):
    monkeypatch.setattr(Appender, method, error)
    served_unspooled(filtered, spool)
    assert "the upload could not be spooled" in only_accepted(spool).error
    assert not list(spool.directory.glob("*.data"))


def test_an_upload_goes_on_when_the_spool_fails_midway(filtered, spool, monkeypatch):
    append = Appender.append
    calls = []

    def once(appender, *pieces):
        calls.append(pieces)
        full() if len(calls) > 1 else append(appender, *pieces)

    monkeypatch.setattr(behind, "_BATCH_BYTES", 1)
    monkeypatch.setattr(Appender, "append", once)
    served_unspooled(filtered, spool)
    assert len(calls) == 2, "a spool that failed is not tried again for this upload"
    assert "No space left" in only_accepted(spool).error
    assert {u.state for u in spool.uploads()} == {UploadState.ACCEPTED, UploadState.REJECTED}


@pytest.mark.parametrize("method", ["append", "_settle"])
def test_a_refusal_passes_on_when_the_spool_fails(filtered, spool, monkeypatch, method):
    monkeypatch.setattr(Appender, method, full)
    assert call(filtered(Glance("409 Conflict")), environ_of())[0] == "409 Conflict"
    assert UploadState.ACCEPTED not in {upload.state for upload in spool.uploads()}
    assert names(spool) == {".json"}


def test_what_cannot_be_recorded_is_recorded_with_a_later_request(filtered, spool, monkeypatch):
    monkeypatch.setattr(Appender, "append", full)
    application = filtered(Glance())
    with monkeypatch.context() as patched:
        patched.setattr(Spool, "record_unspooled", full)
        assert call(application, environ_of())[0] == "204 No Content"
    assert not [upload for upload in spool.uploads() if upload.state is UploadState.ACCEPTED]
    call(application, environ_of(b"", "/v2/images", "GET"))
    assert "could not be spooled" in only_accepted(spool).error


# Staged uploads


def test_staged_bytes_are_in_the_spool_until_their_import(filtered, spool):
    states = []
    glance = Glance(before_answer=lambda: states.append(only(spool).state))
    assert call(filtered(glance), environ_of(path=STAGE))[0] == "204 No Content"
    assert states == [UploadState.STAGING]
    upload = only(spool)
    assert (upload.image_id, upload.state, upload.origin) == (
        IMAGE, UploadState.STAGED, Origin.STAGE
    )  # fmt: skip
    assert (upload.size, upload.received) == (len(BODY), len(BODY))
    assert data(spool) == BODY


def test_of_bytes_that_cannot_be_staged_only_the_word_stays(filtered, spool):
    assert call(filtered(Glance("409 No")), environ_of(path=STAGE))[0] == "409 No"
    assert only(spool).state is UploadState.REJECTED
    assert names(spool) == {".json"}


@pytest.mark.parametrize("method", ["__init__", "append", "accept"])
def test_staging_goes_on_when_the_spool_fails(filtered, spool, monkeypatch, method):
    monkeypatch.setattr(Appender, method, full)
    glance = Glance()
    assert call(filtered(glance), environ_of(path=STAGE))[0] == "204 No Content"
    assert glance.body == BODY
    # What the import makes of it is read from Glance.
    assert {upload.state for upload in spool.uploads()} <= {UploadState.REJECTED}
    assert names(spool) <= {".json"}


# Changes of an image


def change_of(change, body=b"", **more):
    method, path = change.split()
    return environ_of(body, path, method, **more)


def notes(spool):
    files = spool.directory.iterdir()
    return {path.name for path in files if path.suffix in (".note", ".deleted")}


def word_of(change):
    """The name of the file that tells of it."""
    is_delete = change == f"DELETE /v2/images/{IMAGE}"
    return f"{IMAGE}.deleted" if is_delete else f"{IMAGE}.note"


@pytest.mark.parametrize("change", CHANGES)
def test_word_is_left_of_a_change(filtered, spool, change):
    glance = Glance("202 Fine", [("X-One", "1")], before_answer=lambda: seen.update(notes(spool)))
    seen = set()
    answer = call(filtered(glance), change_of(change, BODY))
    assert answer == ("202 Fine", [("X-One", "1")], b"")
    assert glance.body == BODY
    assert seen == set(), "not before it has happened"
    assert notes(spool) == {word_of(change)}


@pytest.mark.parametrize("status", ["304 Same", "400 Bad", "403 No", "409 Conflict", "500 Oh"])
def test_no_word_is_left_of_what_glance_refuses(filtered, spool, status):
    assert call(filtered(Glance(status)), change_of(CHANGES[0]))[0] == status
    assert notes(spool) == set()


def own(spool, environ):
    """The request as a writer of this deployment sends it."""
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[str(spool.directory.parent / "replication.conf")])
    opts.register_opts(conf)
    headers = OwnRequests(conf).headers(environ["REQUEST_METHOD"], environ["PATH_INFO"])
    return {
        **environ,
        **{f"HTTP_{name.upper().replace('-', '_')}": headers[name] for name in headers},
    }


@pytest.mark.parametrize("change", CHANGES)
def test_no_word_is_left_of_what_replication_does_itself(filtered, spool, change):
    glance = Glance()
    call(filtered(glance), own(spool, change_of(change)))
    is_delete = change == f"DELETE /v2/images/{IMAGE}"
    assert notes(spool) == ({word_of(change)} if is_delete else set())
    assert HEADER not in webob.Request(glance.environ).headers


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    "sent",
    [
        {"HTTP_USER_AGENT": images.USER_AGENT},
        {"HTTP_USER_AGENT": f"{images.USER_AGENT}/1.0 keystoneauth1/5"},
        {"HTTP_X_GLANCE_REPL_SIGNATURE": "guessed"},
        {"HTTP_X_GLANCE_REPL_SIGNATURE": "4102444800." + 64 * "0"},
    ],
    ids=["agent", "agent and more", "guessed", "guessed form"],
)
def test_no_header_that_anybody_can_send_keeps_a_change_secret(filtered, spool, change, sent):
    call(filtered(Glance()), change_of(change, **sent))
    assert notes(spool) == {word_of(change)}


def test_word_that_cannot_be_left_harms_no_change(filtered, spool, monkeypatch, caplog):
    monkeypatch.setattr(Spool, "note", full)
    assert call(filtered(Glance()), change_of(CHANGES[0]))[0] == "204 No Content"
    assert f"Image {IMAGE}: a change cannot be noted" in caplog.text


def test_changes_go_on_without_a_spool(filtered, spool):
    application = filtered(Glance())
    spool.directory.rename(spool.directory.with_name("away"))
    for change in CHANGES:
        assert call(application, change_of(change))[0] == "204 No Content"


@pytest.mark.parametrize("error", [OSError("client left"), SystemExit(1)])
def test_what_the_application_raises_at_a_change_passes_on(filtered, spool, error):
    def glance(environ, start_response):
        raise error

    with pytest.raises(type(error)) as raised:
        call(filtered(glance), change_of(CHANGES[0]))
    assert raised.value is error
    assert notes(spool) == set()
    assert is_free(spool)


def is_free(spool):
    """Whether nobody holds a lock of any image."""
    for path in (spool.directory / "locks").glob("*"):
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
    return True


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_holds_the_lock_of_its_image(filtered, spool, change):
    free = []
    glance = Glance(before_answer=lambda: free.append(is_free(spool)))
    application = filtered(glance)
    call(application, own(spool, change_of(change)))
    assert free == [False]
    assert is_free(spool)


ADDITION = b'[{"op": "add", "path": "/locations/-", "value": {"url": "http://a/b"}}]'
RENAMING = b'[{"op": "replace", "path": "/name", "value": "another"}]'


@pytest.mark.parametrize("sender", [own, lambda _, environ: environ], ids=["ours", "a user's"])
def test_without_the_lock_of_all_nodes_locations_are_not_changed(filtered, spool, sender):
    glance = Glance()
    application = filtered(glance, "coordination_url = redis://127.0.0.1:1")
    application._locks._wait_seconds = 0.1
    status, headers, _ = call(application, sender(spool, change_of(CHANGES[0], ADDITION)))
    assert status.startswith("503")
    assert dict(headers)["Retry-After"] == "5"
    assert glance.environ is None
    assert notes(spool) == set()


@pytest.mark.parametrize("change", CHANGES)
def test_without_the_lock_of_all_nodes_other_changes_go_on(filtered, change):
    glance = Glance()
    application = filtered(glance, "coordination_url = redis://127.0.0.1:1")
    application._locks._wait_seconds = 0.1
    assert call(application, change_of(change, RENAMING))[0] == "204 No Content"
    assert glance.body == RENAMING


def test_without_locks_a_node_that_is_alone_goes_on(filtered, spool):
    application = filtered(Glance())
    (spool.directory / "locks").write_text("in the way")
    assert call(application, change_of(CHANGES[0], ADDITION))[0] == "204 No Content"


def test_no_lock_is_held_while_a_client_sends_a_change(filtered, spool):
    free = []

    class Slow(io.BytesIO):
        def read(self, *size):
            free.append(is_free(spool))
            return super().read(*size)

    glance = Glance()
    application = filtered(glance)
    call(application, change_of(CHANGES[0]))
    call(application, change_of(CHANGES[0], BODY, **{"wsgi.input": Slow(BODY)}))
    assert glance.body == BODY
    assert set(free) == {True}


CHUNKED = {"REQUEST_METHOD": "PATCH", "PATH_INFO": IMAGE_PATH}


@pytest.mark.parametrize("body", [BODY, b""])
def test_a_chunked_change_of_uwsgi(filtered, under_uwsgi, body):
    under_uwsgi(*filter(None, [body[:9], body[9:]]), b"", b"")
    glance = Glance()
    assert call(filtered(glance), uwsgi_environ(**CHUNKED))[0] == "204 No Content"
    assert glance.body == body
    assert glance.environ["HTTP_TRANSFER_ENCODING"] == "Chunked"


def test_a_chunked_change_of_another_server(filtered, spool):
    free = []
    glance = Glance(before_answer=lambda: free.append(is_free(spool)))
    assert call(filtered(glance), gunicorn(**CHUNKED))[0] == "204 No Content"
    assert (glance.body, free) == (BODY, [False])


@pytest.mark.parametrize("serve", [uwsgi_environ, gunicorn, environ_of])
def test_a_change_without_end_is_not_held_in_memory(filtered, spool, under_uwsgi, serve):
    block, sent, free = bytes(1 << 20), [], []

    class Endless(Uwsgi, io.RawIOBase):
        def read(self, size=-1):
            sent.append(size)
            return block[:size]

        def chunked_read(self):
            sent.append(1)
            return block

    endless = Endless()
    if serve is uwsgi_environ:
        under_uwsgi(*[block] * 100, b"")

    def glance(environ, start_response):
        assert len(sent) <= 17, "more than a megabyte is read before Glance asks for it"
        free.append(is_free(spool))
        file = wsgi.Request(environ).body_file
        assert [len(file.read(65536)) for _ in range(32)] == [65536] * 32
        start_response("200 Fine", [])
        return []

    environ = {**serve(**CHUNKED), "wsgi.input": endless}
    if serve is environ_of:
        environ["CONTENT_LENGTH"] = str(600 << 20)
    assert call(filtered(glance), environ)[0] == "200 Fine"
    assert free == [True], "a lock would be held while the client sends"


@pytest.mark.parametrize("change", [each for each in CHANGES if each.startswith("DELETE")])
def test_what_has_no_body_for_glance_is_left_unread(filtered, change):
    class Unread:
        def read(self, *_):
            raise AssertionError

    def glance(environ, start_response):
        start_response("204 No Content", [])
        return []

    sent = change_of(change, CONTENT_LENGTH=None, HTTP_TRANSFER_ENCODING="chunked")
    sent |= {"wsgi.input": Unread(), "wsgi.input_terminated": True}
    assert call(filtered(glance), sent)[0] == "204 No Content"


def test_a_client_that_leaves_while_it_sends_a_change(filtered, spool):
    """Glance meets it, as it does without the filter, and answers."""
    error = OSError("client left")

    class Broken(io.BytesIO):
        def read(self, *size):
            if self.tell():
                raise error
            return super().read(*size)

    for broken in (Broken(b"half"), io.BytesIO(b"half")):
        sent = change_of(CHANGES[0], b"half", CONTENT_LENGTH="8", **{"wsgi.input": broken})
        with pytest.raises(OSError, match=r"client left|disconnected"):
            call(filtered(Glance()), sent)
    assert notes(spool) == set()


@pytest.mark.parametrize("path", [PATH, STAGE])
def test_no_lock_is_held_while_a_body_is_sent(filtered, spool, path):
    call(filtered(Glance()), environ_of(path=path))
    assert not (spool.directory / "locks").exists()


def test_the_locks_are_left_alone_when_the_spool_is_tidied(filtered, spool):
    call(filtered(Glance()), change_of(CHANGES[0]))
    for path in (spool.directory / "locks", *(spool.directory / "locks").iterdir()):
        os.utime(path, (0, 0))
    spool.remove_half_made()
    assert (spool.directory / "locks").is_dir()
    assert spool.uploads() == []
    assert spool.used_bytes() == 0


# Everything else


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", PATH),
        ("HEAD", PATH),
        ("POST", PATH),
        ("PUT", f"/v2/images/{IMAGE}/members/x/file"),
        ("PUT", f"/v2/images/{IMAGE}/file/more"),
        ("PUT", f"/x/v2/images/{IMAGE}/file"),
        ("GET", f"/v2/images/{IMAGE}"),
        ("GET", "/"),
    ],
)
def test_other_requests_pass_untouched(filtered, spool, method, path):
    environ = environ_of(path=path, method=method)
    before = dict(environ)
    answer = object()

    def start_response(*_):
        raise AssertionError

    def glance(given, start):
        assert given is environ
        assert given == before
        assert given["wsgi.input"] is before["wsgi.input"]
        assert start is start_response
        return answer

    assert filtered(glance)(environ, start_response) is answer
    assert names(spool) == set()


@pytest.mark.parametrize("path", [PATH, f"{PATH}/", f"//v2//images//{IMAGE}//file", f"{PATH}\n"])
def test_what_is_an_upload(filtered, spool, path):
    glance = Glance()
    call(filtered(glance), environ_of(PATH_INFO=path))
    assert only(spool).image_id == IMAGE
    assert glance.environ["PATH_INFO"] == path


@pytest.mark.parametrize(
    ("method", "path", "query"),
    [("DELETE", f"/v2/images//{IMAGE}", ""), ("GET", IMAGE_PATH, "_method=DELETE")],
)
def test_change_that_is_one_for_glance_alone(filtered, spool, method, path, query):
    free = []
    glance = Glance(before_answer=lambda: free.append(is_free(spool)))
    sent = environ_of(b"", method=method, PATH_INFO=path, QUERY_STRING=query)
    call(filtered(glance), sent)
    assert notes(spool) == {f"{IMAGE}.deleted"}
    assert free == [False]
    given = (glance.environ[name] for name in ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING"))
    assert tuple(given) == (method, path, query)


@pytest.mark.parametrize(
    ("routed", "word"), [("delete", {f"{IMAGE}.deleted"}), ("show", {f"{IMAGE}.note"})]
)
def test_form_has_done_what_the_router_found(filtered, spool, routed, word):
    def glance(environ, start_response):
        environ[ROUTED] = ((), {"action": routed})
        return Glance()(environ, start_response)

    form = b"_method=whatever"
    kind = "application/x-www-form-urlencoded"
    sent = environ_of(form, IMAGE_PATH, "POST", CONTENT_TYPE=kind)
    call(filtered(glance), sent)
    assert notes(spool) == word


def test_paths_of_ours_may_have_more_slashes(filtered):
    glance = Glance()
    sent = environ_of(b"", method="POST", PATH_INFO=f"/v2//images/{IMAGE}//replicas")
    assert call(filtered(glance), sent)[0].startswith("405")
    assert glance.environ is None


class Records:
    """Tells that the image has this id, as databases do whatever one asks with."""

    def __init__(self, image_id):
        self.image_id = image_id
        self.glance = Glance()
        self.asked = []

    def __call__(self, environ, start_response):
        if environ["REQUEST_METHOD"] != "GET":
            return self.glance(environ, start_response)
        self.asked.append(environ["PATH_INFO"])
        status = 200 if self.image_id else 404
        answer = webob.Response(json_body={"id": self.image_id}, status=status)
        return answer(environ, start_response)


@pytest.mark.parametrize("known", [IMAGE, IMAGE.upper(), None])
def test_capitals_of_an_id_are_those_that_glance_has(filtered, spool, known):
    records = Records(known)
    application = filtered(records)
    asked = IMAGE.upper()
    call(application, environ_of(path=f"/v2/images/{asked}/file"))
    assert only(spool).image_id == (known or asked)
    assert records.glance.body == BODY
    call(application, environ_of(b"", f"/v2/images/{asked}", "DELETE"))
    assert notes(spool) == {f"{known or asked}.deleted"}


@pytest.mark.parametrize("given", [f"{IMAGE} ", f"{IMAGE}  ", f"{IMAGE.upper()} ", "\xe1f1f5a5e"])
def test_id_that_a_database_reads_as_another_is_that_of_the_image(filtered, spool, given):
    records = Records(IMAGE)
    application = filtered(records)
    path = f"/v2/images/{given}"
    call(application, environ_of(PATH_INFO=f"{path}/file"))
    assert only(spool).image_id == IMAGE
    assert records.glance.body == BODY
    call(application, environ_of(b"", method="DELETE", PATH_INFO=path))
    assert notes(spool) == {f"{IMAGE}.deleted"}
    assert records.asked == [path, path]
    assert records.glance.environ["PATH_INFO"] == path


@pytest.mark.parametrize("known", [None, "../x", "short"])
@pytest.mark.parametrize("given", [f"{IMAGE} ", "short"])
def test_what_is_no_image_for_glance_passes(filtered, spool, known, given):
    records = Records(known)
    call(filtered(records), environ_of(PATH_INFO=f"/v2/images/{given}/file"))
    assert records.glance.body == BODY
    assert names(spool) == set()


@pytest.mark.parametrize("change", CHANGES)
def test_usual_id_costs_no_question(filtered, change):
    records = Records(IMAGE)
    application = filtered(records)
    call(application, environ_of())
    call(application, change_of(change))
    assert records.asked == []


# The embedded writer


@pytest.fixture
def started(monkeypatch):
    calls = []
    monkeypatch.setattr(
        replication.WriterLauncher, "ensure_started", lambda launcher: calls.append(launcher)
    )
    return calls


def test_an_embedded_writer_is_seen_to_with_every_request(filtered, started):
    application = filtered(Glance(), "writer = embedded\nauth_type = none")
    assert started == [], "the server may still fork"
    call(application, environ_of(b"", "/", "GET"))
    call(application, environ_of())
    assert len(started) == 2


def test_an_external_writer_is_nobody_s_child(filtered, started):
    call(filtered(Glance()), environ_of())
    assert started == []


# Configuration


def test_an_embedded_writer_without_credentials_stops_the_start(filtered):
    with pytest.raises(exceptions.ConfigError, match="auth_type: is missing"):
        filtered(Glance(), "writer = embedded")


def test_a_target_without_section_stops_the_start(filtered):
    with pytest.raises(exceptions.ConfigError, match="site-b"):
        filtered(Glance(), "enabled_targets = site-b:http")


# Downloads


@pytest.mark.parametrize(
    ("is_own", "local_target", "copied"),
    [(False, "site-a", True), (True, "site-a", False), (False, "", False)],
)
def test_downloads_of_users_are_copied_for_the_local_target(
    filtered, spool, is_own, local_target, copied
):
    def glance(environ, start_response):
        environ["wsgiorg.routing_args"] = ((), {})
        start_response("200 OK", [("Content-Length", str(len(BODY)))])
        return [BODY]

    database = f"sqlite:///{spool.directory.parent}/replication.sqlite"
    schema.upgrade(schema.open_database(database))
    options = f"connection = {database}\nlocal_target = {local_target}"
    application = filtered(glance, options)
    environ = environ_of(b"", method="GET", HTTP_USER_AGENT=images.USER_AGENT)
    answer = call(application, own(spool, environ) if is_own else environ)
    assert answer == ("200 OK", [("Content-Length", str(len(BODY)))], BODY)
    assert [upload.origin for upload in spool.uploads()] == [Origin.DOWNLOAD] * copied


@pytest.mark.parametrize(
    ("is_own", "asked", "is_cached"),
    [(True, NO_CACHE, False), (True, "", True), (False, NO_CACHE, True)],
    ids=["ours", "ours, without a wish", "a user's"],
)
def test_image_cache_is_passed_by_only_where_we_ask_for_it(
    filtered, spool, monkeypatch, is_own, asked, is_cached
):
    monkeypatch.setattr(image_cache.ImageCache, "is_cached", lambda self, image_id: True)
    cache = object.__new__(image_cache.ImageCache)
    seen = []

    def glance(environ, start_response):
        seen.append(cache.is_cached(IMAGE))
        start_response("200 OK", [])
        return [BODY]

    environ = environ_of(b"", method="GET", HTTP_CACHE_CONTROL=asked)
    call(filtered(glance), own(spool, environ) if is_own else environ)
    assert seen == [is_cached]


def test_a_local_target_that_is_not_enabled_stops_the_start(filtered):
    with pytest.raises(exceptions.ConfigError, match=r"local_target: 'site-x' is not in enabled"):
        filtered(Glance(), "local_target = site-x")
