# SPDX-License-Identifier: Apache-2.0
"""The subcommands ``target moved`` and ``target claim`` of ``glance-repl-manage``."""

from __future__ import annotations

from collections.abc import Iterator

from oslo_config import cfg
from oslo_utils import timeutils

from glance_repl_mw import exceptions
from glance_repl_mw.checks import deployment
from glance_repl_mw.cmd.records import Records, require_records
from glance_repl_mw.db.deletions import DeletionRecords
from glance_repl_mw.deployment import deployment_id
from glance_repl_mw.images import ImageService
from glance_repl_mw.model import Replica, ReplicaStatus
from glance_repl_mw.reconciler.place import LOCATED, RememberedMarking, place_fact
from glance_repl_mw.signing import without_signatures
from glance_repl_mw.targets import loader
from glance_repl_mw.targets.base import Target, given_location
from glance_repl_mw.targets.guarded import GuardedTarget

_PAGE = 100
_NOT_THERE = "not found at its new place: it is made again"


def moved(conf: cfg.ConfigOpts) -> int:
    """The target's objects were moved along with its url: locations and rows follow.

    May be done again where it was broken off. Returns 1 where objects are not there, else 0.
    """
    replication = deployment.read(conf).replication
    records = require_records(replication)
    driver = _driver(replication, conf.command.target)
    images = ImageService(replication, lambda url: given_location([driver], url))
    _guarded(replication, records, driver).claim()
    followed = lost = 0
    for row in _elsewhere(records, driver):
        if _follow(records, images, driver, row):
            followed += 1
        else:
            lost += 1
            print(f"image {row.image_id}: {row.object_name} was {_NOT_THERE}")
    DeletionRecords(records.database).set_fact(place_fact(driver.name), driver.places[-1])
    print(f"Target {driver.name} has moved: {followed} locations follow, {lost} are made again.")
    return 1 if lost else 0


def claim(conf: cfg.ConfigOpts) -> int:
    """The collection at the target's url is its own, whatever its marker says."""
    replication = deployment.read(conf).replication
    records = require_records(replication)
    driver = _driver(replication, conf.command.target)
    _guarded(replication, records, driver).claim()
    print(f"The collection of target {driver.name} is marked as its own.")
    return 0


def _driver(conf: cfg.ConfigOpts, name: str) -> Target:
    loader.check_values(conf)
    targets = loader.load_targets(conf)
    if name not in targets:
        known = ", ".join(targets) or "none"
        raise exceptions.ConfigError(
            target=name, hint=f"there is no target of this name; configured: {known}"
        )
    return targets[name]


def _guarded(conf: cfg.ConfigOpts, records: Records, driver: Target) -> GuardedTarget:
    known = DeletionRecords(records.database)
    marking = RememberedMarking(driver, known, records.survey)
    return GuardedTarget(driver, deployment_id(conf, known), marking=marking)


def _elsewhere(records: Records, driver: Target) -> Iterator[Replica]:
    """The replicas whose location is not at the target's place."""
    after = 0
    while page := records.survey.page(driver.name, LOCATED, after=after, limit=_PAGE):
        after = page[-1].id
        for row in page:
            if row.location_url and driver.object_name(row.location_url) is None:
                yield row


def _follow(records: Records, images: ImageService, driver: Target, row: Replica) -> bool:
    """Give the replica its new location; returns whether its object is there."""
    stored = driver.stat(row.object_name or "")
    if stored is None or stored.size != row.size:
        images.remove_locations(row.image_id, [row.location_url or ""])
        records.survey.change(
            row, ReplicaStatus.ERROR, error=_NOT_THERE, next_attempt_at=timeutils.utcnow()
        )
        return False
    given = {
        url: driver.location(stored.location_url)
        for url in images.get(row.image_id).given_locations
        if without_signatures(url) == row.location_url
    }
    images.replace_locations(row.image_id, given)
    records.survey.change(row, location_url=stored.location_url)
    return True
