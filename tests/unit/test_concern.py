# SPDX-License-Identifier: Apache-2.0
"""When an uploader gets Glance's answer, by the rows that the database tells of."""

import threading
import time
import types

import oslo_db.exception
import pytest
import webob
from oslo_config import cfg
from oslo_utils import timeutils

from glance_repl_mw import concern, opts, policies
from glance_repl_mw.concern import HEADER, AnswerHold, WriteConcern
from glance_repl_mw.model import Replica, ReplicaStatus
from glance_repl_mw.spare_threads import SpareThreads
from glance_repl_mw.spool.appender import Appender
from glance_repl_mw.spool.directory import Spool

IMAGE = "6f1f5a5e-1c0d-4d7e-9d0b-0c5f4d1f0a11"
NOW = timeutils.utcnow()
PENDING, ACTIVE, ERROR, DELETED = (
    ReplicaStatus(word) for word in ("pending", "active", "error", "deleted")
)


@pytest.fixture
def spool(tmp_path):
    spool = Spool(str(tmp_path / "spool"))
    spool.prepare()
    return spool


@pytest.fixture
def upload_id(spool):
    """An upload that the spool holds."""
    appender = Appender(spool, IMAGE, 1)
    appender.accept()
    return appender.upload_id


class Store:
    """Tells of one set of rows after the other; the last one stays."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def replicas(self, image_id):
        assert image_id == IMAGE
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return [row(number, status) for number, status in enumerate(answer)]


def row(number, status, **values):
    replica = {
        "image_id": IMAGE, "target": str(number), "upload_id": "u", "status": status,
        "object_name": None, "size": 1, "bytes_sent": 0, "location_url": None, "checksum": None,
        "attempts": 0, "error": None, "next_attempt_at": NOW if status is ERROR else None,
        "created_at": NOW, "updated_at": NOW,
    }  # fmt: skip
    return Replica(**{**replica, **values})


class Glance:
    """Tells the record of an image with this property."""

    def __init__(self, value=None, status=200):
        self.record = {} if value is None else {concern.PROPERTY: value}
        self.status = status
        self.asked = []

    def __call__(self, environ, start_response):
        request = webob.Request(environ)
        self.asked.append((request.method, request.path_info, request.query_string))
        answer = webob.Response(json_body=self.record, status=self.status)
        return answer(environ, start_response)


@pytest.fixture
def answer_to(spool, upload_id):
    """The header of the answer to an upload, None where there is none."""

    def serve(store, *, glance=None, roles=(), **options):
        conf = cfg.ConfigOpts()
        opts.register_opts(conf)
        conf([], default_config_files=[])
        for name, value in options.items():
            conf.set_override(name, value, group=opts.GROUP)
        hold = AnswerHold(
            conf, glance or Glance(), spool, store, policies.enforcer(conf), SpareThreads()
        )
        request = webob.Request.blank(f"/v2/images/{IMAGE}/file?a=b", method="PUT")
        values = {"roles": list(roles)}
        request.context = types.SimpleNamespace(to_policy_values=lambda: values)
        question = hold.question(request.environ, IMAGE)
        response = webob.Response(status=204)
        hold.keep(response, IMAGE, upload_id, question)
        assert response.status_int == 204
        return response.headers.get(HEADER)

    return serve


@pytest.mark.parametrize(
    ("word", "shares"), [("none", [0, 0, 0, 0]), ("quorum", [1, 2, 2, 3]), ("all", [1, 2, 3, 4])]
)
def test_shares(word, shares):
    assert [WriteConcern(word).share_of(number) for number in (1, 2, 3, 4)] == shares


def test_without_a_concern_nothing_is_asked(answer_to):
    glance = Glance("all")
    assert answer_to(Store(AssertionError()), glance=glance, roles=["member"]) is None
    assert glance.asked == []


@pytest.mark.parametrize(("word", "header"), [("quorum", "active=2/3"), ("all", "active=3/3")])
def test_answer_comes_when_enough_are_active(answer_to, word, header):
    rows = [[], [PENDING] * 3, [ACTIVE, PENDING, PENDING], [ACTIVE, PENDING, ACTIVE], [ACTIVE] * 3]
    assert answer_to(Store(*rows), write_concern=word) == header


def test_answer_comes_when_the_time_is_over(answer_to):
    store = Store([ACTIVE, ERROR, PENDING])
    header = answer_to(store, write_concern="all", write_concern_timeout_seconds=1)
    assert header == "active=1/3"


def test_closed_rows_of_an_earlier_upload_do_not_count(answer_to):
    assert answer_to(Store([ACTIVE, DELETED]), write_concern="all") == "active=1/1"


def test_nothing_is_waited_for_that_cannot_come(answer_to):
    hopeless = types.SimpleNamespace(
        replicas=lambda _: [row(0, ERROR, next_attempt_at=None), row(1, ACTIVE)]
    )
    assert answer_to(hopeless, write_concern="all") == "active=1/2"


def test_an_image_that_no_target_is_to_have(answer_to, spool, upload_id):
    spooled = []

    class Emptied(Store):
        def replicas(self, image_id):
            spooled.append(spool.get(upload_id))
            spool.remove(upload_id)
            return []

    assert answer_to(Emptied(), write_concern="all") == "active=0/0"
    # Without rows, the writer might yet have been about to make some.
    assert [upload is None for upload in spooled] == [False, True]


def test_a_database_without_tables_is_waited_for(answer_to):
    store = Store(oslo_db.exception.DBNonExistentTable(table="replicas"), [ACTIVE])
    assert answer_to(store, write_concern="all") == "active=1/1"


def test_a_database_that_fails(answer_to):
    assert answer_to(Store(oslo_db.exception.DBError()), write_concern="all") is None


def test_a_database_that_hangs_does_not_hold_the_answer_longer(answer_to):
    over = threading.Event()
    store = types.SimpleNamespace(replicas=lambda _: over.wait(60))
    started = time.monotonic()
    assert answer_to(store, write_concern="all", write_concern_timeout_seconds=1) is None
    assert time.monotonic() - started < 30
    over.set()


@pytest.mark.parametrize("configured", ["none", "quorum"])
@pytest.mark.parametrize(
    ("value", "roles", "wanted"),
    [
        ("all", ["admin"], "all"),
        ("none", ["admin"], "none"),
        ("all", ["member"], None),
        ("many", ["admin"], None),
        (None, ["admin"], None),
    ],
)
def test_the_property_wins_where_policy_allows(answer_to, configured, value, roles, wanted):
    headers = {"none": None, "quorum": "active=2/3", "all": "active=3/3"}
    store = Store([ACTIVE, ACTIVE, PENDING], [ACTIVE] * 3)
    glance = Glance(value)
    header = answer_to(store, glance=glance, roles=roles, write_concern=configured)
    assert header == headers[wanted or configured]
    asked = [("GET", f"/v2/images/{IMAGE}", "")] if "admin" in roles else []
    assert glance.asked == asked


def test_a_policy_that_is_broken_fails_no_upload(answer_to, monkeypatch):
    def fail(*_, **__):
        raise OSError("no such policy")

    monkeypatch.setattr(concern.policy.Enforcer, "authorize", fail)
    header = answer_to(Store([ACTIVE]), roles=["admin"], write_concern="all")
    assert header == "active=1/1"


def test_a_record_that_cannot_be_read_changes_nothing(answer_to):
    glance = Glance("all", status=500)
    header = answer_to(Store([ACTIVE]), glance=glance, roles=["admin"], write_concern="quorum")
    assert header == "active=1/1"


def test_only_so_many_uploads_wait(spool, upload_id):
    """The writer needs a free thread of Glance to make the replicas active."""
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], default_config_files=[])
    conf.set_override("write_concern", "all", group=opts.GROUP)
    conf.set_override("write_concern_max_waiting", 1, group=opts.GROUP)
    waits, over = threading.Event(), threading.Event()

    class Held(Store):
        def replicas(self, image_id):
            waits.set()
            over.wait(30)
            return super().replicas(image_id)

    hold = AnswerHold(
        conf, Glance(), spool, Held([ACTIVE]), policies.enforcer(conf), SpareThreads()
    )
    first, second = webob.Response(), webob.Response()
    thread = threading.Thread(target=hold.keep, args=(first, IMAGE, upload_id, None))
    thread.start()
    waits.wait(30)
    hold.keep(second, IMAGE, upload_id, None)
    over.set()
    thread.join(30)
    assert (first.headers.get(HEADER), second.headers.get(HEADER)) == ("active=1/1", None)
