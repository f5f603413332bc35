# SPDX-License-Identifier: Apache-2.0
"""Replicas at one target: real rows on SQLite, and a Glance and a target that live in memory."""

import datetime
import hashlib
import math
import threading
import uuid
from unittest import mock

from oslo_config import cfg
from oslo_utils import timeutils

from glance_repl_mw import deployment, exceptions, opts
from glance_repl_mw.db import schema
from glance_repl_mw.db.deletions import DeletionRecords, Witness
from glance_repl_mw.db.outlook import Outlooks
from glance_repl_mw.db.survey import ReplicaSurvey
from glance_repl_mw.db.wishes import TargetWishes
from glance_repl_mw.model import Image, Stored
from glance_repl_mw.reconciler.deletion_guard import DeletionGuard
from glance_repl_mw.reconciler.health import TargetHealth
from glance_repl_mw.reconciler.tools import Tools
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.spool.upload import Upload, UploadState
from glance_repl_mw.targets.opts import TARGET_OPTIONS

SITE = "site-a"
SECTION = f"replication:{SITE}"
BODY = b"the bytes of an image" * 100
BLOCK = 100
PRIMARY = "file:///primary"
DEPLOYMENT = "the deployment of the lab"


def at(moment):
    """The clock stands at this moment."""
    return mock.patch.object(timeutils, "utcnow", return_value=moment)


class Images:
    """Glance's images by id; `unlisted` are not found in lists; `errors` by name of the call.

    :ivar overlooks_capitals: they are found whatever capitals one asks with
    :ivar dead: locations that Glance cannot read
    :ivar downloads: the images that were read, with the locations that they had
    """

    def __init__(self):
        self.images = {}
        self.unlisted = set()
        self.overlooks_capitals = False
        self.dead = set()
        self.downloads = []
        self.errors = {}
        self.finds = []
        self.told_deployment = DEPLOYMENT

    def project_id(self):
        return "service"

    def deployment(self):
        return self.told_deployment

    def members(self, image_id):
        self._fail("members")
        return []

    def find(self, image_ids):
        self._fail("find")
        self.finds.append(list(image_ids))
        ids = {image_id: self._id(image_id) for image_id in image_ids}
        return {
            image_id: self.images[its_own]
            for image_id, its_own in ids.items()
            if its_own in self.images and its_own not in self.unlisted
        }

    def get(self, image_id):
        self._fail("get")
        if self._id(image_id) not in self.images:
            raise exceptions.ImageGone(image_id)
        return self.images[self._id(image_id)]

    def page(self, after, limit, *, hidden=False):
        self._fail("page")
        return [] if after or hidden else list(self.images.values())[:limit]

    def download(self, image_id, *, past_cache=False):
        self._fail("download")
        assert past_cache
        locations = self.get(image_id).locations
        self.downloads.append((image_id, locations))
        if set(locations) <= self.dead:
            raise exceptions.GlanceUnavailable(image_id, hint="HTTP 503")
        yield b"the first bytes"

    def add_locations(self, image_id, urls):
        self._fail("add_locations")
        self.change(image_id, locations=(*self.get(image_id).locations, *urls))

    def remove_locations(self, image_id, urls, proven=None):
        self._fail("remove_locations")
        locations = self.get(image_id).locations
        left = tuple(url for url in locations if url not in urls) or locations[:1]
        self.change(image_id, locations=left)
        return [url for url in left if url in urls]

    def change(self, image_id, **values):
        self.images[image_id] = Image(**{**vars(self.images[image_id]), **values})

    def _id(self, image_id):
        """The id of the image that is found by this one."""
        if not self.overlooks_capitals:
            return image_id
        same = (each for each in self.images if each.lower() == image_id.lower())
        return next(same, image_id)

    def _fail(self, call):
        if call in self.errors:
            raise self.errors[call]


class Target:
    """Objects in memory; `errors` are raised whenever one of these is asked for.

    :ivar unreadable: objects that Glance cannot read although they are there
    """

    def __init__(self, conf):
        self.name = SITE
        self.conf = conf
        self.objects = {}
        self.errors = {}
        self.checksums = {}
        self.asked = []
        self.read = []
        self.probed = []
        self.unreadable = set()
        self.deleted = []
        self.renewal_seconds = math.inf

    def stat(self, name):
        self.asked.append(name)
        if name in self.errors:
            raise self.errors[name]
        if name not in self.objects:
            return None
        return Stored(url_of(name), len(self.objects[name]), self.checksums.get(name))

    def probe(self, name):
        self.probed.append(name)
        if name in self.unreadable:
            raise exceptions.TargetUnavailable(target=self.name, hint="HTTP 403")

    def open(self, name):
        self.read.append(name)
        if name not in self.objects:
            raise exceptions.ReplicaMissing(target=self.name, hint=name)
        body = self.objects[name]
        return (body[place : place + BLOCK] for place in range(0, len(body), BLOCK))

    def delete(self, name):
        self.deleted.append(name)
        for each in (name, f"{name}.partial"):
            self.objects.pop(each, None)

    def list(self):
        return iter(self.objects)

    def object_name(self, url):
        return url.removeprefix(url_of("")) if url.startswith(url_of("")) else None


def url_of(name):
    return f"http://{SITE}/{name}"


class Lab:
    def __init__(self, directory):
        conf = cfg.ConfigOpts()
        opts.register_opts(conf)
        conf.register_opts(TARGET_OPTIONS, group=SECTION)
        conf([], default_config_files=[], default_config_dirs=[])
        self.database = schema.open_database(f"sqlite:///{directory}/replication.sqlite")
        schema.upgrade(self.database)
        conf.register_opts(opts.GLANCE_OPTIONS)
        spool = Spool(str(directory / "spool"))
        spool.prepare()
        self.target = Target(conf[SECTION])
        self.health = TargetHealth()
        self.images = Images()
        self.records = DeletionRecords(self.database)
        self.records.set_fact(deployment.FACT, DEPLOYMENT)
        targets, health = {SITE: self.target}, {SITE: self.health}
        self.tools = Tools(
            conf=conf,
            spool=spool,
            survey=ReplicaSurvey(self.database),
            wishes=TargetWishes(self.database),
            outlooks=Outlooks(self.database),
            images=self.images,
            guard=DeletionGuard(conf, self.images, self.records, targets, health),
            targets=targets,
            health=health,
            stopping=threading.Event(),
        )
        self.survey = self.tools.survey

    def close(self):
        self.database.writer.get_engine().dispose()

    def set(self, **options):
        for name, value in options.items():
            self.tools.conf.set_override(name, value, group="replication")

    def add_witness(self, **values):
        """Another project's private image, which Glance has shown before; returns its id."""
        record = {"owner": "stranger", "visibility": "private", "created_at": days(9), **values}
        image_id = self.add_image(**record)
        image = self.image(image_id)
        known = [*self.records.witnesses(), Witness(image_id, image.owner, image.created_at)]
        self.records.set_witnesses(known)
        return image_id

    def add_image(self, body=BODY, **values):
        """An image in Glance that has no replica; returns its id."""
        image_id = values.pop("image_id", str(uuid.uuid4()))
        record = {
            "image_id": image_id,
            "status": "active",
            "size": len(body),
            "checksum": hashlib.md5(body).hexdigest(),
            "os_hash_algo": "sha512",
            "os_hash_value": hashlib.sha512(body).hexdigest(),
            "locations": (PRIMARY,),
        }
        self.images.images[image_id] = Image(**{**record, **values})
        return image_id

    def add(self, body=BODY, *, made_at=None, verified_at=None, read_back_at=None, **values):
        """An image with an active replica, made long ago by default; returns its id."""
        image_id = self.add_image(body, **values)
        upload_id = uuid.uuid4().hex
        name = f"{image_id}.{upload_id}.1"
        self.target.objects[name] = body
        url = url_of(name)
        self.images.change(image_id, locations=(*self.images.images[image_id].locations, url))
        with at(made_at or days(20)):
            self.survey.adopt(
                image_id,
                SITE,
                upload_id,
                name,
                location_url=url,
                size=len(body),
                bytes_sent=len(body),
                verified_at=verified_at,
                read_back_at=read_back_at,
            )
        return image_id

    def put_in_hand(self, image_id):
        """The spool holds the upload of the image's replica."""
        upload_id = self.row(image_id).upload_id
        upload = Upload(upload_id, image_id, 1, UploadState.ACCEPTED, 0.0)
        self.tools.spool.write_sidecar(upload)

    def row(self, image_id):
        (row,) = self.survey.of_images([image_id])[image_id]
        return row

    def name(self, image_id):
        """The name of the replica's object."""
        return self.row(image_id).object_name

    def image(self, image_id):
        return self.images.images[image_id]

    def is_location(self, image_id):
        return self.row(image_id).location_url in self.image(image_id).locations

    def verified(self):
        """The images whose replica's size was found right."""
        rows = self.survey.of_images(list(self.images.images))
        return {image_id for image_id, (row,) in rows.items() if row.verified_at}


def days(number):
    """A moment so many days ago."""
    return timeutils.utcnow() - datetime.timedelta(days=number)
