# SPDX-License-Identifier: Apache-2.0
"""Events about replicas on a real RabbitMQ."""

import json
from contextlib import suppress

import kombu
import pytest

from tests.functional.cloud import Cloud
from tests.lab.faults import HEALTHY, Fault, FaultyTarget
from tests.lab.messaging import RabbitMq
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

SECONDS = 60
BODY = b"some bytes"
QUEUES = ("notifications.info", "notifications.error")
# Glance's own would hold up its answers while the broker is away.
GLANCES_OWN = ("create", "prepare", "upload", "activate", "update", "delete")


class Inbox:
    """What lies in the queues that consumers of Glance's events read."""

    def __init__(self, broker):
        self._url = broker.amqp_url
        self._kept = []

    def next(self, event, image_id, target):
        """Wait for the event; returns its priority, publisher and payload. Others are kept."""

        def found():
            self._kept += self._received()
            return next(filter(is_wanted, self._kept), None)

        def is_wanted(message):
            payload = message["payload"]
            about = (payload["image_id"], payload["target"])
            return (message["event_type"], *about) == (f"image.replica.{event}", image_id, target)

        message = wait_until(found, SECONDS, f"{event} of {image_id} at {target}")
        self._kept.remove(message)
        return message["priority"].lower(), message["publisher_id"], message["payload"]

    def _received(self):
        messages = []
        with kombu.Connection(self._url) as connection:
            for name in QUEUES:
                # The publisher makes a queue with its first message.
                with suppress(*connection.channel_errors):
                    channel = connection.channel()
                    while message := channel.basic_get(name, no_ack=True):
                        messages.append(json.loads(json.loads(message.body)["oslo.message"]))
        return messages

    def left(self):
        """The events that nobody asked for."""
        return [message["event_type"] for message in self._kept]


@pytest.fixture(scope="module")
def broker(workdir, require):
    require(RabbitMq)
    with RabbitMq(workdir("rabbitmq")) as server:
        yield server


@pytest.fixture(scope="module")
def inbox(broker):
    return Inbox(broker)


@pytest.fixture(scope="module")
def cloud(keystone, workdir, broker, require):
    require(Nginx)
    directory = workdir("notifications")
    targets = {
        "good": Nginx(directory / "good"),
        "bad": FaultyTarget(Nginx(directory / "bad")),
    }
    options = {
        "DEFAULT": {
            "transport_url": broker.url,
            "default_publisher_id": "image.lab",
            "disabled_notifications": ",".join(f"image.{event}" for event in GLANCES_OWN),
        },
        "oslo_messaging_notifications": {"driver": "messagingv2"},
        "replication": {
            "notifications": "true",
            "scrub_interval_seconds": "1",
            "retry_initial_seconds": "0.2",
            "retry_max_seconds": "1",
        },
    }
    with Cloud(directory, keystone, targets=targets, options=options) as cloud:
        yield cloud


def test_replica_from_its_first_failure_to_its_end(cloud, inbox):
    cloud.targets["bad"].switch(Fault(status=403))
    image_id = cloud.new_image(BODY)
    priority, publisher, active = inbox.next("active", image_id, "good")
    assert (priority, publisher) == ("info", "image.lab")
    replica = cloud.row(image_id, "good").as_dict()
    for name in ("bytes_sent", "progress", "location_url"):
        del replica[name]
    assert active == replica
    priority, _, error = inbox.next("error", image_id, "bad")
    assert (priority, error["status"], error["attempts"]) == ("error", "error", 1)
    assert "403" in error["error"] and error["next_attempt_at"]
    assert inbox.next("error", image_id, "bad")[2]["attempts"] == 2
    cloud.targets["bad"].switch(HEALTHY)
    assert inbox.next("active", image_id, "bad")[2]["error"] is None
    cloud.request("DELETE", f"v2/images/{image_id}")
    for target in cloud.targets:
        assert inbox.next("deleted", image_id, target)[2]["status"] == "deleted"
    assert set(inbox.left()) <= {"image.replica.error"}


def test_replica_that_is_lost_and_made_again(cloud, inbox):
    """As the reconciler finds and does it."""
    image_id = cloud.new_image(BODY)
    inbox.next("active", image_id, "good")
    (name,) = cloud.objects(image_id)["good"]
    (cloud.targets["good"].root / name).unlink()
    assert inbox.next("error", image_id, "good")[2]["error"]
    inbox.next("active", image_id, "good")


def test_broker_that_is_away_holds_up_nothing(cloud, broker, inbox):
    broker.stop()
    image_ids = [cloud.new_image(BODY) for _ in range(3)]
    for image_id in image_ids:
        cloud.wait_replicated(image_id)
    cloud.wait_settled()
    broker.start()
    image_id = cloud.new_image(BODY)
    for target in cloud.targets:
        inbox.next("active", image_id, target)
