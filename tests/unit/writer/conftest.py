# SPDX-License-Identifier: Apache-2.0
"""A crew with a real spool and database, whose Glance and targets live in memory."""

import hashlib
import time

import pytest
from oslo_config import cfg

from glance_repl_mw import deployment, exceptions, opts
from glance_repl_mw.db import schema
from glance_repl_mw.db.deletions import DeletionRecords
from glance_repl_mw.db.store import ReplicaStore
from glance_repl_mw.model import Image, Stored
from glance_repl_mw.reconciler.deletion_guard import DeletionGuard
from glance_repl_mw.reconciler.health import TargetHealth
from glance_repl_mw.spool.appender import Appender
from glance_repl_mw.spool.directory import Spool
from glance_repl_mw.targets.opts import TARGET_OPTIONS
from glance_repl_mw.writer.crew import Crew
from glance_repl_mw.writer.job import Job

IMAGE = "7f2f2b5e-0c7f-4f3b-9d4c-000000000001"
DEPLOYMENT = "the deployment of the lab"
WAIT_SECONDS = 60


class Images:
    """Glance with one image; `error` is raised by every call while it is set.

    :ivar unreadable: what Glance fails with when its locations are read
    """

    def __init__(self):
        self.unreadable = None
        self.image = None
        self.error = None
        self.patches = []

    def accept(self, body, **changes):
        record = {
            "image_id": IMAGE,
            "status": "active",
            "size": len(body),
            "checksum": hashlib.md5(body).hexdigest(),
            "os_hash_algo": "sha512",
            "os_hash_value": hashlib.sha512(body).hexdigest(),
            "locations": ("file:///primary",),
        }
        self.image = Image(**{**record, **changes})

    def get(self, image_id):
        if self.error:
            raise self.error
        if self.image is None:
            raise exceptions.ImageGone(image_id)
        return self.image

    def project_id(self):
        return "service"

    def deployment(self):
        return DEPLOYMENT

    def find(self, image_ids):
        return {image_id: self.get(image_id) for image_id in image_ids}

    def download(self, image_id, *, past_cache=False):
        self.get(image_id)
        if self.unreadable:
            raise self.unreadable
        yield b"the first bytes"

    def lose_locations(self):
        self.image = Image(**{**vars(self.image), "locations": ("file:///primary",)})

    def add_locations(self, image_id, urls):
        self.get(image_id)
        self.patches.append(list(urls))
        changed = (*self.image.locations, *urls)
        self.image = Image(**{**vars(self.image), "locations": changed})
        return self.image


class Target:
    """Objects in memory; `errors` are raised by the next puts, one by one."""

    def __init__(self, name, conf):
        self.name = name
        self.conf = conf
        self.objects = {}
        self.errors = []
        self.deleted = []
        self.checksum = None

    def put(self, name, reader, size):
        body = b""
        while data := reader.read():
            body += data
        if self.errors:
            raise self.errors.pop(0)
        self.objects[name] = body
        return self.stat(name)

    def stat(self, name):
        if name not in self.objects:
            return None
        return Stored(f"http://{self.name}/{name}", len(self.objects[name]), self.checksum)

    def probe(self, name):
        pass

    def object_name(self, url):
        prefix = f"http://{self.name}/"
        return url.removeprefix(prefix) if url.startswith(prefix) else None

    def delete(self, name):
        self.deleted.append(name)
        self.objects.pop(name, None)


@pytest.fixture
def conf(tmp_path):
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf.register_opts(opts.GLANCE_OPTIONS)
    for name in ("site-a", "site-b"):
        conf.register_opts(TARGET_OPTIONS, group=f"replication:{name}")
    conf([], default_config_files=[], default_config_dirs=[])
    conf.set_override("retry_initial_seconds", 0.1, group="replication")
    conf.set_override("retry_max_seconds", 0.4, group="replication")
    # Other tests keep the processors busy.
    conf.set_override("writer_nice", 0, group="replication")
    return conf


@pytest.fixture
def store(tmp_path):
    database = schema.open_database(f"sqlite:///{tmp_path}/replication.sqlite")
    schema.upgrade(database)
    yield ReplicaStore(database, "node")
    database.writer.get_engine().dispose()


@pytest.fixture
def spool(tmp_path):
    spool = Spool(str(tmp_path / "spool"))
    spool.prepare()
    return spool


@pytest.fixture
def images():
    return Images()


@pytest.fixture
def targets(conf):
    names = ("site-a", "site-b")
    return {name: Target(name, conf[f"replication:{name}"]) for name in names}


@pytest.fixture
def records(store):
    records = DeletionRecords(store._database)
    records.set_fact(deployment.FACT, DEPLOYMENT)
    return records


@pytest.fixture
def crew(conf, spool, store, targets, images, records):
    health = {name: TargetHealth() for name in targets}
    guard = DeletionGuard(conf, images, records, targets, health)
    return Crew(conf, spool, store, targets, images, guard)


class Lab:
    """Takes uploads in hand as the service does, and is the main loop."""

    def __init__(self, crew):
        self.crew = crew
        self.activated = []
        self.job = None

    def receive(self, body, size=None):
        """Begin an upload of which these bytes have come; returns its appender."""
        appender = Appender(self.crew.spool, IMAGE, size)
        appender.append(body)
        return appender

    def accepted(self, body):
        """Spool a whole upload that Glance has accepted."""
        self.receive(body, len(body)).accept()
        self.crew.images.accept(body)

    def take_in_hand(self):
        (upload,) = self.crew.spool.uploads()
        rows = self.crew.store.begin(upload, self.crew.targets)
        self.job = Job(self.crew, upload, rows, lambda *place: self.activated.append(place[1]))
        self.job.start()
        return self.job

    def observe(self):
        (upload,) = self.crew.spool.uploads()
        self.job.observe(upload)

    def until(self, condition):
        """Serve events, and do what becomes due, until the condition holds."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, self.rows()
            while not self.crew.events.empty():
                self.crew.events.get()()
            self.job.tick()
            time.sleep(0.002)

    def until_done(self):
        self.until(lambda: self.job.done)

    def rows(self):
        """The rows of the upload by target."""
        return {row.target: row for row in self.crew.store.replicas(IMAGE)}

    def statuses(self):
        return {name: str(row.status) for name, row in self.rows().items()}

    def spooled(self):
        return sorted(path.suffix for path in self.crew.spool.directory.iterdir())


@pytest.fixture
def lab(crew):
    lab = Lab(crew)
    yield lab
    if lab.job is not None and not lab.job.done:
        lab.job.hand_back()
        lab.until_done()
