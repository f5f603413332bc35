# SPDX-License-Identifier: Apache-2.0
"""`explain`: what becomes of one image at each target, and why."""

import json

import pytest

from glance_repl_mw.model import ReplicaStatus, Wish
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.spool.upload import Upload, UploadState
from tests.unit.cmd.conftest import IMAGE


def explained(node):
    """The lines by target."""
    status, out, err = node.run("explain", IMAGE, "--format", "json")
    assert (status, err) == (0, "")
    return {line["target"]: line for line in json.loads(out)}


def test_reasons_of_the_options(node, glance, configure):
    configure("replication:site-a", mode="lazy")
    configure("replication:site-c", replicate_if="visibility:public and size:>1MiB")
    lines = explained(node)
    assert list(lines) == ["site-a", "site-c"]
    assert [line["wanted"] for line in lines.values()] == [False, False]
    assert "mode is lazy" in lines["site-a"]["why"]
    assert lines["site-a"]["next"] == "nothing; glance-repl-manage sync makes it"
    assert lines["site-c"]["why"] == "replicate_if: size:>1MiB does not hold"
    assert lines["site-c"]["next"] == "nothing"


def test_reasons_of_the_image(node, glance, configure):
    configure("replication", image_property_targets="true")
    glance.record["properties"] = {"replication_targets": "site-c,site-z"}
    lines = explained(node)
    assert lines["site-a"]["wanted"] is False
    assert lines["site-c"]["wanted"] is True
    _, table, _ = node.run("explain", IMAGE)
    assert f"Image {IMAGE}: its replication_targets names unknown targets: site-z." in table


@pytest.mark.parametrize(
    ("record", "wanted", "words"),
    [
        ({"status": "saving", "size": None}, True, "the image is saving"),
        ({"size": 0}, False, "nothing"),
        ({}, True, "the next comparison, within about 600 s"),
    ],
)
def test_what_follows_where_there_is_no_replica(node, glance, record, wanted, words):
    glance.record.update(record)
    line = explained(node)["site-a"]
    assert line["wanted"] is wanted
    assert words in line["next"]


def test_size_that_is_not_known_yet(node, glance, configure):
    configure("replication:site-a", replicate_if="size:<1GiB")
    glance.record.update(status="queued", size=None)
    assert explained(node)["site-a"]["wanted"] is None


def test_spooled_image_and_no_automatic_backfill(node, glance, configure):
    configure("replication", automatic_backfill="false")
    assert "automatic_backfill is off" in explained(node)["site-a"]["next"]
    upload = Upload("0" * 32, IMAGE, 5, UploadState.ACCEPTED, 0.0)
    Spool(str(node.spool)).write_sidecar(upload)
    assert explained(node)["site-a"]["next"] == "the writer takes it from the spool"


def test_image_without_a_size(node, glance):
    glance.record["size"] = None
    line = explained(node)["site-a"]
    assert (line["wanted"], line["next"]) == (False, "nothing")
    assert "size" in line["why"]
    status, _, err = node.run("sync", IMAGE)
    assert (status, "size" in err) == (2, True)


@pytest.mark.parametrize("wish", Wish)
def test_target_that_leaves(node, glance, records, add, wish):
    add(IMAGE, "site-a")
    records.wishes.ask("site-a", wish)
    line = explained(node)["site-a"]
    assert (line["wanted"], line["replica"], line["next"]) == (False, "active", "it goes")
    assert wish.value[:5] in line["why"]


STORED = (ReplicaStatus.UPLOADING, ReplicaStatus.STORED)


@pytest.mark.parametrize(
    ("steps", "values", "words"),
    [
        ((*STORED, ReplicaStatus.ACTIVE), {"next_attempt_at": None}, "nothing"),
        (STORED, {}, "it becomes a location"),
        (STORED, {"next_attempt_at": None}, "waits for the target to be back"),
        ((ReplicaStatus.UPLOADING,), {"bytes_sent": 2}, "being written, 40%"),
        ((), {}, "it is tried from "),
        ((), {"next_attempt_at": None, "node": "a-node"}, "it is written soon"),
        ((ReplicaStatus.ERROR,), {"next_attempt_at": None}, "sync makes it"),
    ],
)
def test_what_follows_where_there_is_a_replica(node, glance, add, steps, values, words):
    add(IMAGE, "site-a", steps, **values)
    line = explained(node)["site-a"]
    assert line["replica"] == (steps[-1] if steps else "pending")
    assert words in line["next"]


def test_replica_that_is_not_wanted_any_more_stays(node, glance, add, configure):
    configure("replication:site-a", replicate_if="tag:golden")
    add(IMAGE, "site-a", next_attempt_at=None)
    line = explained(node)["site-a"]
    assert (line["wanted"], line["replica"]) == (False, "active")
    assert line["next"] == "it stays: what is there is kept"


def test_withheld_and_forgotten_replicas(node, glance, add):
    add(IMAGE, "site-a", [ReplicaStatus.DELETED], withheld=True)
    add(IMAGE, "gone")
    lines = explained(node)
    assert "shall not come back" in lines["site-a"]["why"]
    assert lines["site-a"]["replica"] is None
    assert lines["gone"]["why"] == "the target is not configured any more"


@pytest.mark.parametrize("command", ["explain", "sync"])
def test_unknown_image_is_one_line(node, glance, command):
    status, out, err = node.run(command, "none")
    assert (status, out) == (2, "")
    assert "image none: read the image: there is none" in err
