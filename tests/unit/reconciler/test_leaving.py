# SPDX-License-Identifier: Apache-2.0
"""Emptying of targets: real rows on SQLite, and a Glance that lives in memory."""

import datetime
import itertools
from unittest import mock

import pytest
from oslo_config import cfg
from oslo_utils import timeutils

from glance_repl_mw import exceptions, opts
from glance_repl_mw.db import schema
from glance_repl_mw.db.deletions import DeletionRecords
from glance_repl_mw.db.outlook import Outlooks
from glance_repl_mw.db.survey import ReplicaSurvey
from glance_repl_mw.db.wishes import TargetWishes
from glance_repl_mw.model import Image, Priority, ReplicaStatus, Stored, Wish
from glance_repl_mw.reconciler import leaving
from glance_repl_mw.reconciler.deletion_guard import DeletionGuard
from glance_repl_mw.reconciler.health import TargetHealth
from glance_repl_mw.reconciler.leaving import CANNOT_LEAVE, Leaving
from glance_repl_mw.reconciler.tools import Tools
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.spool.upload import Upload, UploadState

MINUTE = datetime.timedelta(minutes=1)
STEPS = {
    "pending": (),
    "uploading": (ReplicaStatus.UPLOADING,),
    "stored": (ReplicaStatus.UPLOADING, ReplicaStatus.STORED),
    "active": (ReplicaStatus.UPLOADING, ReplicaStatus.STORED, ReplicaStatus.ACTIVE),
    "error": (ReplicaStatus.ERROR,),
    "deleting": (ReplicaStatus.DELETING,),
}


def later(time):
    """The clock is so much further on."""
    return mock.patch.object(timeutils, "utcnow", return_value=timeutils.utcnow() + time)


class Images:
    """Glance's locations by image; `errors` are raised for their images.

    :ivar unread: images of which Glance reads no location
    """

    def __init__(self):
        self.locations = {}
        self.errors = {}
        self.asked = []
        self.unread = set()

    def get(self, image_id):
        locations = tuple(self.locations.get(image_id, ()))
        return Image(image_id, "active", 5, None, None, None, locations)

    def download(self, image_id, *, past_cache=False):
        if image_id in self.unread:
            raise exceptions.GlanceUnavailable(image_id, None, "download the image", "HTTP 503")
        yield b"bytes"

    def add_locations(self, image_id, urls):
        self.locations[image_id] += urls

    def remove_locations(self, image_id, urls, proven=None):
        self.asked.append(image_id)
        if image_id in self.errors:
            raise self.errors[image_id]
        here = self.locations.setdefault(image_id, [])
        stays = here if set(here) <= set(urls) else []
        self.locations[image_id] = [url for url in here if url not in urls or url in stays]
        return stays


class Target:
    """One that holds none of its objects; `complete` are there."""

    def __init__(self, name):
        self.name = name
        self.complete = set()

    def object_name(self, url):
        prefix = f"http://{self.name}/"
        return url.removeprefix(prefix) if url.startswith(prefix) else None

    def stat(self, name):
        return Stored(f"http://{self.name}/{name}", 5) if name in self.complete else None

    def probe(self, name):
        pass


class Lab:
    def __init__(self, tools):
        self.tools = tools
        self.images = tools.images
        self.task = Leaving(tools)

    def add(self, image, status="active", target="site-c", *, age=MINUTE, **values):
        """Make a row that got to this status, with an object and a location where it can be."""
        survey = self.tools.survey
        survey.plan(image, [target], Priority.REPAIR, 5)
        url = f"http://{target}/{image}"
        if status in ("stored", "active", "deleting"):
            values = {"object_name": f"{image}.u.1", "location_url": url, **values}
        here = self.images.locations.setdefault(image, [f"file:///{image}"])
        if status == "active":
            here.append(url)
        with later(-age):
            survey.change(self.row(image, target), next_attempt_at=None)
            for step in STEPS[status]:
                survey.change(self.row(image, target), step)
            survey.change(self.row(image, target), **values)
        return url

    def row(self, image, target="site-c"):
        return next(
            row for row in self.tools.survey.of_images([image])[image] if row.target == target
        )

    def status(self, image, target="site-c"):
        return str(self.row(image, target).status)

    def is_due(self, image):
        row = self.row(image)
        return row.next_attempt_at is not None and row.next_attempt_at <= timeutils.utcnow()

    def ask(self, wish, target="site-c"):
        self.tools.wishes.ask(target, wish)
        self.task.run_once()


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.setattr(leaving, "_REST_SECONDS", 0)
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], default_config_files=[], default_config_dirs=[])
    database = schema.open_database(f"sqlite:///{tmp_path}/replication.sqlite")
    schema.upgrade(database)
    spool = Spool(str(tmp_path / "spool"))
    spool.prepare()
    targets = {name: Target(name) for name in ("site-a", "site-c")}
    health = {name: TargetHealth() for name in targets}
    images = Images()
    yield Lab(
        Tools(
            conf,
            spool,
            ReplicaSurvey(database),
            TargetWishes(database),
            Outlooks(database),
            images,
            DeletionGuard(conf, images, DeletionRecords(database), targets, health),
            targets,
            health,
        )
    )
    database.writer.get_engine().dispose()


def test_nothing_is_done_without_a_wish(lab):
    lab.add("one")
    lab.task.run_once()
    assert lab.status("one") == "active"
    assert lab.images.asked == []


def test_drain_removes_the_location_then_has_the_object_deleted(lab):
    url = lab.add("one")
    other = lab.add("one", target="site-a")
    lab.ask(Wish.DRAIN)
    assert lab.images.locations["one"] == ["file:///one", other]
    assert url not in lab.images.locations["one"]
    assert lab.status("one") == "deleting"
    assert lab.is_due("one")
    assert lab.status("one", "site-a") == "active"


@pytest.mark.parametrize("status", ["pending", "uploading", "error"])
def test_drain_closes_what_was_not_made_yet(lab, status):
    lab.add("bare", status)
    lab.add("begun", status, object_name="begun.u.1")
    lab.ask(Wish.DRAIN)
    assert lab.status("bare") == "deleted"
    assert lab.status("begun") == "deleting"
    assert lab.is_due("begun")
    assert lab.images.asked == []


@pytest.mark.parametrize("status", sorted(STEPS))
def test_remove_closes_everything_without_a_deletion_at_the_target(lab, status):
    lab.add("one", status, next_attempt_at=None)
    lab.ask(Wish.REMOVE)
    assert lab.status("one") == "deleted"
    assert lab.row("one").next_attempt_at is None
    assert "http://site-c/one" not in lab.images.locations.get("one", [])


def test_drain_leaves_objects_to_be_deleted_when_the_target_is_back(lab):
    lab.add("one", "deleting", next_attempt_at=timeutils.utcnow() + MINUTE)
    before = lab.row("one")
    lab.ask(Wish.DRAIN)
    assert lab.row("one") == before


def test_location_that_is_being_added_comes_later(lab):
    lab.add("one", "stored", next_attempt_at=timeutils.utcnow())
    lab.ask(Wish.DRAIN)
    assert lab.status("one") == "stored"
    assert lab.row("one").next_attempt_at is None
    with later(MINUTE):
        lab.task.run_once()
    assert lab.status("one") == "deleting"


def test_fresh_location_comes_later_since_it_is_looked_at_once_more(lab):
    lab.add("one", age=datetime.timedelta(seconds=1))
    lab.ask(Wish.DRAIN)
    assert lab.status("one") == "active"
    with later(MINUTE):
        lab.task.run_once()
    assert lab.status("one") == "deleting"


def test_row_from_before_the_clock_was_set_back_does_not_wait(lab):
    lab.add("one", age=-MINUTE)
    lab.ask(Wish.DRAIN)
    assert lab.status("one") == "deleting"


@pytest.mark.parametrize("wish", Wish)
def test_row_in_hand_is_left_to_its_job_unless_that_is_done_with_it(lab, wish):
    lab.add("done")
    lab.tools.spool.write_sidecar(
        Upload(lab.row("done").upload_id, "done", 5, UploadState.ACCEPTED, 0.0)
    )
    lab.add("one", "error", object_name="one.u.1")
    lab.tools.spool.write_sidecar(
        Upload(lab.row("one").upload_id, "one", 5, UploadState.ACCEPTED, 0.0)
    )
    lab.ask(wish)
    assert lab.status("one") == "error"
    assert lab.status("done") != "active"
    lab.tools.spool.remove(lab.row("one").upload_id)
    lab.task.run_once()
    assert lab.status("one") != "error"


@pytest.mark.parametrize("wish", Wish)
def test_only_location_stays_and_says_so(lab, wish):
    url = lab.add("one")
    lab.add("two")
    lab.images.locations["one"] = [url]
    lab.ask(wish)
    assert lab.status("one") == "active"
    assert lab.row("one").error == f"{CANNOT_LEAVE}it is the only location of the image"
    assert lab.images.locations["one"] == [url]
    assert lab.status("two") != "active"


@pytest.mark.parametrize("wish", Wish)
def test_the_last_readable_copy_stays_and_is_a_location_again(lab, wish):
    """The primary store is dead, and its location is still there."""
    url = lab.add("one")
    lab.images.unread.add("one")
    lab.ask(wish)
    assert lab.images.locations["one"] == ["file:///one", url]
    assert lab.status("one") == "active"
    assert lab.row("one").error == (
        f"{CANNOT_LEAVE}no other copy of the image is proven to be readable: "
        "Glance cannot read it: HTTP 503"
    )
    lab.images.unread.clear()
    with later(2 * MINUTE):
        lab.task.run_once()
    assert lab.status("one") != "active"


def test_location_that_was_gone_already_comes_back_where_nothing_else_is_read(lab):
    """The writer was killed between its removal and the look at the other locations."""
    url = lab.add("one")
    lab.images.unread.add("one")
    lab.images.locations["one"] = ["file:///one"]
    lab.ask(Wish.DRAIN)
    assert lab.images.locations["one"] == ["file:///one", url]


def test_withdrawn_replica_of_an_unreadable_image_stays_without_a_location(lab):
    lab.add("one", "stored")
    lab.images.locations["one"] = ["file:///one"]
    lab.images.unread.add("one")
    lab.ask(Wish.DRAIN)
    assert lab.images.locations["one"] == ["file:///one"]
    assert lab.status("one") == "stored"


@pytest.mark.parametrize("is_complete", [True, False])
def test_replica_elsewhere_must_be_there_before_another_leaves(lab, is_complete):
    """Of the image only replicas are left; the one at the other target may be lost."""
    url, other = lab.add("one"), lab.add("one", target="site-a")
    lab.images.locations["one"] = [other, url]
    if is_complete:
        lab.tools.targets["site-a"].complete.add("one")
    lab.ask(Wish.DRAIN)
    assert (url in lab.images.locations["one"]) is not is_complete
    assert lab.status("one") == ("deleting" if is_complete else "active")


def test_what_stays_is_tried_again_only_after_a_while(lab):
    url = lab.add("one")
    lab.images.locations["one"] = [url]
    lab.ask(Wish.DRAIN)
    lab.images.locations["one"] = ["file:///one", url]
    lab.task.run_once()
    assert lab.images.asked == []
    with later(2 * MINUTE):
        lab.task.run_once()
    assert lab.status("one") == "deleting"
    assert lab.images.locations["one"] == ["file:///one"]


def test_what_cannot_leave_is_tried_again_after_growing_pauses(lab):
    """At each attempt readers do without the location until Glance has failed to read another."""
    url = lab.add("one")
    lab.images.locations["one"] = [url]
    lab.ask(Wish.DRAIN)
    tries = [0]
    for minute in range(1, 70):
        before = lab.row("one").attempts
        with later(minute * MINUTE):
            lab.task.run_once()
        if lab.row("one").attempts > before:
            tries.append(minute)
    pauses = [after - before for before, after in itertools.pairwise(tries)]
    assert pauses == [1, 2, 4, 8, 15, 15, 15]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (exceptions.GlanceRefused("one", None, "remove locations", "409 deactivated"), "409"),
        (exceptions.ImageGone("one"), "Glance does not show the image"),
    ],
)
def test_what_glance_does_not_do_stays_with_the_reason(lab, error, words):
    lab.add("one")
    lab.add("two")
    lab.images.errors["one"] = error
    lab.ask(Wish.DRAIN)
    assert lab.status("one") == "active"
    assert lab.row("one").error.startswith(CANNOT_LEAVE)
    assert words in lab.row("one").error
    assert lab.status("two") == "deleting"


def test_one_image_that_fails_does_not_hold_up_the_others(lab):
    for image in ("one", "two", "three"):
        lab.add(image)
    lab.images.errors["one"] = exceptions.GlanceUnavailable("one", None, "remove", "500")
    lab.ask(Wish.DRAIN)
    assert [lab.status(image) for image in ("one", "two", "three")] == [
        "active",
        "deleting",
        "deleting",
    ]
    assert lab.row("one").error is None


def test_glance_that_is_down_is_not_asked_for_every_image(lab):
    images = [f"image-{number}" for number in range(9)]
    for image in images:
        lab.add(image)
        lab.images.errors[image] = exceptions.GlanceUnavailable(image, None, "remove", "503")
    with pytest.raises(exceptions.GlanceUnavailable):
        lab.ask(Wish.DRAIN)
    assert len(lab.images.asked) == 3


def test_many_rows_go_page_by_page(lab):
    images = [f"image-{number:02}" for number in range(2 * leaving._PAGE + 1)]
    for image in images:
        lab.add(image)
    lab.ask(Wish.DRAIN)
    assert {lab.status(image) for image in images} == {"deleting"}


def test_wish_that_is_taken_back_ends_the_work_at_the_next_page(lab):
    images = [f"image-{number:02}" for number in range(leaving._PAGE + 1)]
    for image in images:
        lab.add(image)
    remove = lab.images.remove_locations

    def restore_meanwhile(*arguments):
        lab.tools.wishes.take_back("site-c")
        return remove(*arguments)

    lab.images.remove_locations = restore_meanwhile
    lab.ask(Wish.DRAIN)
    assert lab.status(images[-1]) == "active"


def test_wish_stays_while_the_target_is_configured_and_goes_when_it_has_left(lab):
    for target in ("site-c", "gone"):
        lab.add("one", target=target)
        lab.ask(Wish.REMOVE, target)
        assert lab.status("one", target) == "deleted"
    assert lab.images.locations["one"] == ["file:///one"]
    assert lab.tools.wishes.all() == {"site-c": Wish.REMOVE}


def test_wish_of_a_target_that_cannot_be_emptied_stays(lab):
    url = lab.add("one", target="gone")
    lab.images.locations["one"] = [url]
    lab.ask(Wish.REMOVE, "gone")
    assert lab.tools.wishes.all() == {"gone": Wish.REMOVE}


def test_target_that_left_the_configuration_is_reported_once_and_kept(lab, caplog):
    lab.add("one", target="gone")
    lab.add("two", target="gone")
    lab.add("one", target="forgotten")
    lab.add("closed", "pending", target="old")
    lab.tools.survey.change(lab.row("closed", "old"), ReplicaStatus.DELETED)
    lab.tools.wishes.ask("forgotten", Wish.REMOVE)
    for _ in range(2):
        lab.task.run_once()
    (record,) = [each for each in caplog.records if "not configured" in each.getMessage()]
    assert record.levelname == "WARNING"
    assert "Target gone is not configured, but has replicas: 2" in record.getMessage()
    assert "glance-repl-manage target remove gone --force" in record.getMessage()
    assert lab.status("one", "gone") == "active"
