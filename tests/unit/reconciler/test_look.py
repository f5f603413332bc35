# SPDX-License-Identifier: Apache-2.0
"""One image compared with its rows."""

import datetime

import pytest
from oslo_utils import timeutils

from glance_repl_mw import exceptions
from glance_repl_mw.model import Priority, ReplicaStatus, Wish
from glance_repl_mw.reconciler import look, strays
from glance_repl_mw.reconciler.look import Look
from glance_repl_mw.reconciler.verification import Verifier
from glance_repl_mw.spool.upload import Upload, UploadState
from tests.unit.reconciler.target_lab import BODY, PRIMARY, SECTION, SITE, Lab, days, url_of


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path)
    yield lab
    lab.close()


def at(lab, image_id, *, looker=None, now=True):
    looker = looker or Look(lab.tools)
    rows = lab.survey.of_images([image_id]).get(image_id, [])
    in_spool, leaving = look.images_in_spool(lab.tools), lab.tools.wishes.all()
    return looker.at(lab.image(image_id), rows, in_spool, leaving, now=now)


def rows(lab, image_id):
    return lab.survey.of_images([image_id]).get(image_id, [])


def test_image_without_a_replica_is_planned_once(lab):
    image_id = lab.add_image()
    at(lab, image_id)
    at(lab, image_id)
    row = lab.row(image_id)
    assert (row.status, row.priority, row.size) == ("pending", Priority.BACKFILL, len(BODY))
    assert row.next_attempt_at is not None


@pytest.mark.parametrize("change", [{"status": "queued"}, {"size": 0}])
def test_image_without_data_is_left_alone(lab, change):
    image_id = lab.add_image(**change)
    at(lab, image_id)
    assert rows(lab, image_id) == []


def test_image_without_a_size_is_told_of_once(lab, caplog):
    image_id = lab.add_image(size=None)
    looker = Look(lab.tools)
    for _ in range(2):
        at(lab, image_id, looker=looker)
    assert rows(lab, image_id) == []
    (line,) = [each for each in caplog.messages if image_id in each]
    assert "size" in line


def test_image_that_has_just_changed_is_left_for_later(lab):
    now = timeutils.utcnow()
    image_id = lab.add_image(updated_at=now)
    at(lab, image_id, now=False)
    assert rows(lab, image_id) == []
    lab.images.change(image_id, updated_at=now - datetime.timedelta(minutes=1))
    at(lab, image_id, now=False)
    assert len(rows(lab, image_id)) == 1


def test_nothing_is_planned_where_an_operator_does_not_want_it(lab):
    image_id = lab.add_image()
    lab.tools.wishes.ask(SITE, Wish.DRAIN)
    at(lab, image_id)
    lab.tools.wishes.take_back(SITE)
    lab.set(automatic_backfill=False)
    at(lab, image_id)
    assert rows(lab, image_id) == []


def test_location_without_a_row_is_taken_up(lab):
    image_id = lab.add_image()
    name = f"{image_id}.0123456789abcdef0123456789abcdef.3"
    lab.target.objects[name] = BODY
    lab.images.change(image_id, locations=(PRIMARY, url_of(name)))
    at(lab, image_id)
    row = lab.row(image_id)
    assert (row.status, row.object_name, row.verified_at) == ("active", name, None)
    assert row.location_url == url_of(name)


def test_former_objects_go_once_the_stored_replica_is_seen_to_be_a_location(lab):
    (image_id,) = lost(lab, 1)
    at(lab, image_id)
    lab.target.objects["former"] = b"broken"
    lab.survey.change(lab.row(image_id), ReplicaStatus.STORED, former_objects="former")
    at(lab, image_id)
    row = lab.row(image_id)
    assert (row.status, row.object_names) == ("active", [row.object_name])
    assert list(lab.target.objects) == [row.object_name]


def lost(lab, number):
    """So many images with a location at the target, of which the database knows no more."""
    image_ids = []
    for _ in range(number):
        image_id = lab.add_image()
        name = f"{image_id}.0123456789abcdef0123456789abcdef.1"
        lab.target.objects[name] = BODY
        lab.images.change(image_id, locations=(PRIMARY, url_of(name)))
        image_ids.append(image_id)
    return image_ids


def test_target_that_is_down_is_not_asked_and_nothing_is_concluded(lab):
    (image_id,) = lost(lab, 1)
    for _ in range(3):
        lab.health.failed(OSError("down"))
    at(lab, image_id)
    assert lab.target.asked == []
    assert rows(lab, image_id) == []
    assert len(lab.image(image_id).locations) == 2
    lab.health.succeeded()
    at(lab, image_id)
    assert lab.row(image_id).status == "active"


def test_target_that_hangs_costs_one_timeout_however_many_images_it_has(lab):
    image_ids = lost(lab, 5)
    hangs = exceptions.TargetUnavailable(target=SITE, hint="no answer for 60 s")
    lab.target.errors = dict.fromkeys(lab.target.objects, hangs)
    looker = Look(lab.tools)
    for image_id in image_ids:
        at(lab, image_id, looker=looker)
    assert len(lab.target.asked) == 1
    assert "no answer" in lab.health.error
    assert [rows(lab, image_id) for image_id in image_ids] == [[]] * 5


def test_second_location_without_a_row_goes(lab, monkeypatch):
    """As after a database was lost, whose last word was that the first replica was bad."""
    monkeypatch.setattr(strays, "_SECOND_LOOK_SECONDS", 0.0)
    image_id = lab.add_image()
    names = [f"{image_id}.0123456789abcdef0123456789abcdef.{number}" for number in (1, 2)]
    for name in names:
        lab.target.objects[name] = BODY
    lab.images.change(image_id, locations=(PRIMARY, *map(url_of, names)))
    looker = Look(lab.tools)
    at(lab, image_id, looker=looker)
    assert at(lab, image_id, looker=looker)
    assert not at(lab, image_id, looker=looker)
    assert lab.row(image_id).object_name == names[0]
    assert lab.image(image_id).locations == (PRIMARY, url_of(names[0]))


def test_location_of_a_wrong_object_goes_and_the_replica_is_planned(lab):
    image_id = lab.add_image()
    name = f"{image_id}.0123456789abcdef0123456789abcdef.3"
    lab.target.objects[name] = BODY[:-1]
    lab.images.change(image_id, locations=(PRIMARY, url_of(name)))
    at(lab, image_id)
    assert lab.image(image_id).locations == (PRIMARY,)
    assert lab.row(image_id).status == "pending"


def test_location_of_somebody_else_at_our_target_stays(lab):
    image_id = lab.add_image()
    lab.images.change(image_id, locations=(PRIMARY, url_of("of-somebody-else")))
    at(lab, image_id)
    assert lab.image(image_id).locations == (PRIMARY, url_of("of-somebody-else"))
    assert lab.row(image_id).status == "pending"


def lose_location(lab, monkeypatch, **options):
    monkeypatch.setattr(look, "_SECOND_LOOK_SECONDS", 0.0)
    lab.health.succeeded()
    lab.set(**options)
    image_id = lab.add()
    lab.images.change(image_id, locations=(PRIMARY,))
    return image_id


def test_lost_location_is_added_again(lab, monkeypatch):
    image_id = lose_location(lab, monkeypatch)
    at(lab, image_id)
    row = lab.row(image_id)
    assert row.status == "stored"
    assert row.next_attempt_at is not None


def test_lost_location_is_believed_only_the_second_time(lab, monkeypatch):
    image_id = lose_location(lab, monkeypatch)
    monkeypatch.setattr(look, "_SECOND_LOOK_SECONDS", 60.0)
    assert at(lab, image_id)
    assert lab.row(image_id).status == "active"


def test_lost_location_is_respected_if_the_operator_says_so(lab, monkeypatch):
    image_id = lose_location(lab, monkeypatch, heal_removed_locations=False)
    at(lab, image_id)
    row = lab.row(image_id)
    assert (row.status, row.withheld) == ("deleting", True)
    lab.survey.change(row, ReplicaStatus.DELETED, next_attempt_at=None)
    at(lab, image_id)
    assert len(rows(lab, image_id)) == 1


@pytest.mark.parametrize("heal", [True, False])
def test_hidden_locations_say_nothing_and_are_told_of_once(lab, monkeypatch, caplog, heal):
    """The service user has lost the role with which Glance shows them."""
    image_ids = [
        lose_location(lab, monkeypatch, heal_removed_locations=heal),
        demanded_removal(lab, lab.add()).image_id,
    ]
    before = lab.survey.of_images(image_ids)
    for image_id in image_ids:
        lab.images.change(image_id, locations=())
    looker = Look(lab.tools)
    for image_id in image_ids * 2:
        assert not at(lab, image_id, looker=looker)
    assert lab.survey.of_images(image_ids) == before
    (line,) = [each for each in caplog.messages if "get_image_location" in each]
    assert image_ids[0] in line


def test_locations_that_are_hidden_at_the_second_look_say_nothing(lab, monkeypatch):
    image_id = lose_location(lab, monkeypatch, heal_removed_locations=False)
    shown = lab.image(image_id)
    lab.images.change(image_id, locations=())
    monkeypatch.setattr(lab, "image", lambda _: shown)
    at(lab, image_id)
    assert lab.row(image_id).status == "active"


def test_few_replicas_go_because_someone_else_removed_their_locations(lab, monkeypatch):
    image_ids = [lose_location(lab, monkeypatch, heal_removed_locations=False) for _ in range(8)]
    for image_id in image_ids:
        at(lab, image_id)
    statuses = [str(lab.row(image_id).status) for image_id in image_ids]
    assert statuses == ["deleting"] * 5 + ["active"] * 3
    assert not lab.row(image_ids[-1]).withheld
    assert lab.records.breaker().tripped_at is not None


def test_lost_location_of_a_target_that_is_down_is_left_to_the_withdrawal(lab, monkeypatch):
    image_id = lose_location(lab, monkeypatch)
    for _ in range(3):
        lab.health.failed(OSError("down"))
    at(lab, image_id)
    assert lab.row(image_id).status == "active"


def test_row_in_hand_is_left_alone(lab, monkeypatch):
    image_id = lose_location(lab, monkeypatch)
    lab.put_in_hand(image_id)
    at(lab, image_id)
    assert lab.row(image_id).status == "active"


def test_stored_replica_that_is_a_location_is_active(lab):
    image_id = lab.add()
    lab.survey.change(lab.row(image_id), ReplicaStatus.STORED)
    at(lab, image_id)
    assert lab.row(image_id).status == "active"


def test_one_row_alone_takes_up_a_location(lab):
    image_id = lab.add_image()
    for _ in range(2):
        lab.survey.plan(image_id, [SITE], Priority.BACKFILL, len(BODY))
    name = f"{image_id}.0123456789abcdef0123456789abcdef.3"
    lab.target.objects[name] = BODY
    lab.images.change(image_id, locations=(PRIMARY, url_of(name)))
    at(lab, image_id)
    assert [(row.status, row.object_name) for row in rows(lab, image_id)] == [
        ("active", name),
        ("pending", None),
    ]
    at(lab, image_id)
    assert [row.status for row in rows(lab, image_id)] == ["active", "deleted"]


def test_second_row_of_a_replica_is_closed(lab):
    image_id = lab.add()
    lab.survey.plan(image_id, [SITE], Priority.BACKFILL, len(BODY))
    at(lab, image_id)
    assert [row.status for row in rows(lab, image_id)] == ["active", "deleted"]


def test_second_row_of_the_same_object_deletes_nothing(lab):
    """It would wait for ever, as the object is a location."""
    image_id = lab.add()
    active = lab.row(image_id)
    lab.survey.plan(image_id, [SITE], Priority.BACKFILL, len(BODY))
    (second,) = [row for row in rows(lab, image_id) if row.id != active.id]
    lab.survey.change(second, ReplicaStatus.ERROR, object_name=active.object_name)
    at(lab, image_id)
    assert [row.status for row in rows(lab, image_id)] == ["active", "deleted"]
    assert lab.image(image_id).locations == (PRIMARY, active.location_url)


def test_error_without_a_next_attempt_is_taken_up(lab):
    image_id = lab.add_image()
    at(lab, image_id)
    lab.survey.change(lab.row(image_id), ReplicaStatus.ERROR, next_attempt_at=None)
    at(lab, image_id)
    assert lab.row(image_id).next_attempt_at is not None


@pytest.mark.parametrize("others", [(PRIMARY,), ()], ids=["one of two", "only location"])
def test_location_of_a_replica_in_error_is_taken_up_where_nothing_is_known_against_it(lab, others):
    """As where the answer to the request that added it was lost."""
    image_id = lab.add(verified_at=days(1), read_back_at=days(1))
    row = lab.survey.change(lab.row(image_id), ReplicaStatus.ERROR, error="no answer")
    lab.images.change(image_id, locations=(*others, row.location_url))
    at(lab, image_id)
    row = lab.row(image_id)
    assert (row.status, row.error, row.next_attempt_at) == ("active", None, None)
    assert (row.verified_at, row.read_back_at) == (None, None)
    assert lab.image(image_id).locations == (*others, row.location_url)


def test_replica_in_error_whose_object_has_another_size_loses_its_location(lab):
    image_id = lab.add()
    lab.target.objects[lab.name(image_id)] = BODY[:-1]
    lab.survey.change(lab.row(image_id), ReplicaStatus.ERROR, error="no answer")
    at(lab, image_id)
    assert lab.image(image_id).locations == (PRIMARY,)
    row = lab.row(image_id)
    assert (row.status, row.next_attempt_at is None) == ("error", False)


def test_replica_that_was_found_to_be_bad_is_not_taken_up(lab):
    """Its location was there when the image was read, or somebody has added it again."""
    image_id = lab.add()
    located = lab.image(image_id).locations
    lab.target.objects[lab.name(image_id)] = BODY[::-1]
    row, image = lab.row(image_id), lab.image(image_id)
    Verifier(lab.tools).verify(row, image, read_back=True)
    lab.images.change(image_id, locations=located)
    at(lab, image_id)
    row = lab.row(image_id)
    assert (row.status, row.next_attempt_at is None) == ("error", False)
    assert row.object_names == [row.object_name]


@pytest.mark.parametrize("heal", [True, False])
@pytest.mark.parametrize("error", ["the sha512 is another", None])
def test_bad_replica_does_not_come_back_where_its_withdrawal_was_cut_short(
    lab, monkeypatch, heal, error
):
    image_id = lose_location(lab, monkeypatch, heal_removed_locations=heal)
    row = lab.row(image_id)
    lab.survey.change(row, error=error, former_objects=row.object_name)
    at(lab, image_id)
    row = lab.row(image_id)
    assert (row.status, row.is_bad, row.next_attempt_at is None) == ("error", True, False)
    assert row.error == (error or look._BAD)


def test_former_objects_of_a_bad_replica_stay(lab):
    image_id = lab.add()
    row = lab.row(image_id)
    lab.target.objects["former"] = b"broken"
    lab.survey.change(row, former_objects=f"{row.object_name} former")
    at(lab, image_id)
    assert "former" in lab.target.objects
    assert lab.row(image_id).is_bad


def demanded_removal(lab, image_id):
    row = lab.row(image_id)
    return lab.survey.change(row, ReplicaStatus.DELETING, next_attempt_at=None, withheld=True)


def test_location_goes_before_the_object_of_a_replica_that_shall_be_deleted(lab):
    image_id = lab.add()
    demanded_removal(lab, image_id)
    at(lab, image_id)
    assert lab.image(image_id).locations == (PRIMARY,)
    (row,) = rows(lab, image_id)
    assert (row.status, row.withheld) == ("deleting", True)
    assert row.next_attempt_at is not None


@pytest.mark.parametrize("due", [None, "now"])
def test_location_that_readers_need_stays_whenever_its_object_is_due(lab, due):
    """The primary store is dead. An image that seemed to be gone had the object due at once."""
    image_id = lab.add()
    lab.images.dead = {PRIMARY}
    row = demanded_removal(lab, image_id)
    if due:
        lab.survey.change(row, next_attempt_at=timeutils.utcnow())
    at(lab, image_id)
    assert url_of(lab.name(image_id)) in lab.image(image_id).locations
    (row,) = rows(lab, image_id)
    assert (row.status, "HTTP 503" in row.error) == ("deleting", True)


def test_the_only_location_is_deleted_when_there_is_another(lab):
    image_id = lab.add()
    url = lab.row(image_id).location_url
    lab.images.change(image_id, locations=(url,))
    demanded_removal(lab, image_id)
    at(lab, image_id)
    assert lab.image(image_id).locations == (url,)
    (row,) = rows(lab, image_id)
    assert row.is_still_located
    assert "only location" in row.error
    lab.images.change(image_id, locations=(PRIMARY, url))
    at(lab, image_id)
    assert lab.image(image_id).locations == (PRIMARY,)
    (row,) = rows(lab, image_id)
    assert not row.is_still_located
    assert row.error is None


@pytest.mark.parametrize("cause", ["image_missing", "image_deleted"])
def test_replica_of_an_image_that_was_taken_for_gone_stays(lab, cause):
    image_id = lab.add()
    row = lab.row(image_id)
    lab.survey.change(
        row, ReplicaStatus.DELETING, cause=cause, error="gone", next_attempt_at=timeutils.utcnow()
    )
    at(lab, image_id)
    (after,) = rows(lab, image_id)
    assert (after.status, after.cause, after.error) == ("active", None, None)
    assert (after.verified_at, after.next_attempt_at) == (None, None)
    assert lab.image(image_id).locations == (PRIMARY, row.location_url)


def test_replica_of_an_image_that_was_taken_for_gone_is_no_location_any_more(lab):
    image_id = lab.add()
    lab.survey.change(lab.row(image_id), ReplicaStatus.DELETING, cause="image_missing")
    lab.images.change(image_id, locations=(PRIMARY,))
    at(lab, image_id)
    assert rows(lab, image_id)[0].status == "deleting"


def test_only_what_the_options_of_the_target_want_is_planned(lab):
    conf = lab.tools.conf
    image_id = lab.add_image(tags=frozenset({"golden"}))
    conf.set_override("mode", "lazy", group=SECTION)
    at(lab, image_id)
    conf.set_override("mode", "eager", group=SECTION)
    conf.set_override("replicate_if", "not tag:golden", group=SECTION)
    at(lab, image_id)
    assert rows(lab, image_id) == []
    lab.images.change(image_id, tags=frozenset())
    at(lab, image_id)
    assert len(rows(lab, image_id)) == 1


def test_replica_stays_where_it_is_not_wanted_any_more(lab):
    image_id = lab.add()
    lab.tools.conf.set_override("replicate_if", "tag:golden", group=SECTION)
    at(lab, image_id)
    assert lab.row(image_id).status == "active"
    assert lab.is_location(image_id)


def test_upload_that_is_in_hand_does_not_keep_an_image_from_other_targets(lab):
    image_id = lab.add_image()
    upload = Upload("0" * 32, image_id, 1, UploadState.ACCEPTED, 0.0)
    lab.tools.spool.write_sidecar(upload)
    lab.survey.adopt(image_id, "site-b", upload.upload_id, "an object")
    at(lab, image_id, now=False)
    assert [row.target for row in rows(lab, image_id)] == ["site-b", SITE]


def test_image_that_is_still_spooled_is_looked_at_again_after_a_change(lab):
    image_id = lab.add_image()
    lab.tools.spool.write_sidecar(Upload("0" * 32, image_id, 1, UploadState.ACCEPTED, 0.0))
    assert at(lab, image_id, now=True)
    assert not at(lab, image_id, now=False)
    assert rows(lab, image_id) == []
