# SPDX-License-Identifier: Apache-2.0
"""Which changes are told, and that telling never waits."""

import dataclasses
import datetime
import logging
import threading

import oslo_messaging
import pytest
from oslo_config import cfg

from glance_repl_mw import notifications
from glance_repl_mw.model import Replica, ReplicaStatus
from glance_repl_mw.notifications import Notifications

SECONDS = 60
NOW = datetime.datetime(2026, 11, 23, 10)
PENDING = Replica(
    image_id="7f2f2b5e-0c7f-4f3b-9d4c-000000000001",
    target="site-a",
    upload_id="upload",
    status=ReplicaStatus.PENDING,
    object_name="object",
    size=10,
    bytes_sent=0,
    location_url="https://site-a/object",
    checksum=None,
    attempts=0,
    error=None,
    next_attempt_at=None,
    created_at=NOW,
    updated_at=NOW,
)


class Notifier:
    """Takes events as a broker does; none while `broker` is cleared."""

    def __init__(self):
        self.broker = threading.Event()
        self.broker.set()
        self.asked = threading.Event()
        self.sent = []

    def send(self, context, event, payload):
        self.asked.set()
        self.broker.wait()
        self.sent.append((event, payload))

    info = error = send


@pytest.fixture
def notifier(monkeypatch):
    notifier = Notifier()
    monkeypatch.setattr(oslo_messaging, "Notifier", lambda *_: notifier)
    yield notifier
    notifier.broker.set()


def make_conf(**options):
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    conf.register_opts(notifications._OPTIONS)
    for name, value in options.items():
        conf.set_override(name, value)
    return conf


@pytest.fixture
def replicas():
    """The replicas of the image that count."""
    return []


@pytest.fixture
def events(notifier, replicas):
    events = Notifications(make_conf())
    events.start(lambda image_id: replicas)
    return events


def now(status, before=PENDING, **values):
    return dataclasses.replace(before, status=ReplicaStatus(status), **values)


@pytest.mark.parametrize("status", list(ReplicaStatus))
def test_three_statuses_are_told_when_they_are_reached(events, notifier, status):
    before = now("uploading")
    events.changed(before, now(status))
    events.changed(now(status), now(status))
    events.finish(SECONDS)
    wanted = [f"image.replica.{status}"] if status in ("active", "error", "deleted") else []
    assert [event for event, _ in notifier.sent] == wanted


def test_payload_has_neither_urls_nor_names_of_objects(events, notifier):
    events.changed(PENDING, now("active"))
    events.finish(SECONDS)
    ((_, payload),) = notifier.sent
    assert payload == {
        "image_id": PENDING.image_id,
        "target": "site-a",
        "status": "active",
        "size": 10,
        "checksum": None,
        "attempts": 0,
        "error": None,
        "next_attempt_at": None,
        "created_at": "2026-11-23T10:00:00Z",
        "updated_at": "2026-11-23T10:00:00Z",
    }


def test_each_failed_attempt_is_told_once(events, notifier):
    first = now("error", attempts=1, error="away")
    events.changed(PENDING, first)
    events.changed(first, now("error", first, next_attempt_at=NOW))
    events.changed(first, now("error", first, attempts=2))
    events.finish(SECONDS)
    assert [payload["attempts"] for _, payload in notifier.sent] == [1, 2]


def test_end_of_a_replica_that_was_replaced_is_not_told(events, notifier, replicas):
    replicas += [now("active"), dataclasses.replace(now("deleted"), target="site-b")]
    for target in ("site-a", "site-b"):
        before = dataclasses.replace(PENDING, target=target)
        events.changed(before, now("deleted", before))
    events.finish(SECONDS)
    assert [payload["target"] for _, payload in notifier.sent] == ["site-b"]


@pytest.mark.parametrize("disabled", ["image", "image.replica", "image.replica.active"])
def test_what_glance_is_told_not_to_send(notifier, disabled):
    events = Notifications(make_conf(disabled_notifications=[disabled]))
    events.start(lambda image_id: [])
    events.changed(PENDING, now("active"))
    events.changed(PENDING, now("deleted"))
    events.finish(SECONDS)
    rest = ["image.replica.deleted"] if disabled.endswith("active") else []
    assert [event for event, _ in notifier.sent] == rest


def test_broker_that_hangs_costs_events_and_no_time(events, notifier, monkeypatch, caplog):
    caplog.set_level(logging.ERROR)
    notifier.broker.clear()
    events.changed(PENDING, now("active", size=0))
    assert notifier.asked.wait(SECONDS)
    for number in range(1, 3000):
        events.changed(PENDING, now("active", size=number))
    assert [record.message[:19] for record in caplog.records] == ["Events are lost, 1 "]
    notifier.broker.set()
    events.finish(SECONDS)
    # One was in hand, and a thousand waited.
    assert [payload["size"] for _, payload in notifier.sent] == list(range(1001))


def test_event_that_cannot_be_sent_keeps_none_of_the_next_ones(events, notifier, monkeypatch):
    def fail(*_event):
        raise RuntimeError("no way")

    monkeypatch.setattr(notifier, "error", fail)
    events.changed(PENDING, now("error"))
    events.changed(PENDING, now("active"))
    events.finish(SECONDS)
    assert [event for event, _ in notifier.sent] == ["image.replica.active"]
