# SPDX-License-Identifier: Apache-2.0
"""A node's configuration and database, and the command run in this process."""

import fcntl

import pytest
from oslo_utils import timeutils

from glance_repl_mw import exceptions, launcher
from glance_repl_mw.cmd import explain, manage, sync
from glance_repl_mw.cmd.records import Records
from glance_repl_mw.db import schema
from glance_repl_mw.db.demands import ReplicaDemands
from glance_repl_mw.db.outlook import Outlooks
from glance_repl_mw.db.states import TargetStates
from glance_repl_mw.db.survey import ReplicaSurvey
from glance_repl_mw.db.wishes import TargetWishes
from glance_repl_mw.model import Image, Priority, ReplicaStatus, TargetState
from glance_repl_mw.spool.directory import Spool
from tests.lab.process import free_port

IMAGE = "7f2f2b5e-0c7f-4f3b-9d4c-000000000001"
ACTIVE = (ReplicaStatus.UPLOADING, ReplicaStatus.STORED, ReplicaStatus.ACTIVE)


class Node:
    """Two targets whose ports are closed, `site-a` and `site-c`."""

    def __init__(self, directory, capsys):
        self.config = directory / "glance-api.conf"
        self.database_file = directory / "replication.sqlite"
        self.spool = directory / "spool"
        self.url = f"http://127.0.0.1:{free_port()}/images/"
        self._capsys = capsys
        self._lock = None
        self.config.write_text(
            "[replication]\n"
            f"connection = sqlite:///{self.database_file}\n"
            f"spool_dir = {self.spool}\n"
            "enabled_targets = site-a:http,site-c:http\n"
            f"[replication:site-a]\nurl = {self.url}\n"
            f"[replication:site-c]\nurl = {self.url}c/\n"
        )

    def run(self, *arguments):
        """Run the command; returns its status and what it printed on stdout and stderr."""
        status = manage.manage(["--config-file", str(self.config), *arguments])
        captured = self._capsys.readouterr()
        return status, captured.out, captured.err

    def start_writer(self):
        """As far as a command can see, a writer runs on this node."""
        self.spool.mkdir(mode=0o700, exist_ok=True)
        self._lock = launcher.open_lock(self.spool, launcher.WRITER_LOCK)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def end_writer(self):
        self._lock.close()


@pytest.fixture
def node(tmp_path, capsys):
    node = Node(tmp_path, capsys)
    node.start_writer()
    yield node
    node.end_writer()


@pytest.fixture
def records(node):
    """What the database holds; makes it."""
    database = schema.open_database(f"sqlite:///{node.database_file}")
    schema.upgrade(database)
    survey, wishes = ReplicaSurvey(database), TargetWishes(database)
    yield Records(survey, wishes, Outlooks(database), ReplicaDemands(database), {}, database)
    database.writer.get_engine().dispose()


@pytest.fixture
def report(records):
    """Let the writer of another node say that a target is up."""

    def report(name):
        state = TargetState(name, "site-a", True, None, timeutils.utcnow())
        TargetStates(records.database).report(name, [state])

    return report


@pytest.fixture
def add(records):
    """Make a row that got to a status by these steps, active by default."""

    def add(image, target, steps=ACTIVE, **values):
        survey = records.survey
        survey.plan(image, [target], Priority.REPAIR, 5)
        for step in (*steps, None):
            row = survey.of_images([image])[image][-1]
            survey.change(row, step, **(values if step is None else {}))

    return add


class Glance:
    """Glance with one image."""

    def __init__(self):
        self.record = {"status": "active", "size": 5, "visibility": "public"}

    def get(self, image_id):
        if image_id != IMAGE:
            raise exceptions.ImageGone(image_id, None, "read the image", "there is none")
        hashes = dict.fromkeys(("checksum", "os_hash_algo", "os_hash_value"))
        return Image(IMAGE, locations=(), **hashes, **self.record)


@pytest.fixture
def glance(monkeypatch, node, records):
    glance = Glance()
    for module in (explain, sync):
        monkeypatch.setattr(module, "ImageService", lambda conf: glance)
    Spool(str(node.spool)).prepare()
    return glance


@pytest.fixture
def configure(node):
    """Add options of targets, or of [replication]."""

    def configure(section, **options):
        lines = "".join(f"{name} = {value}\n" for name, value in options.items())
        text = node.config.read_text().replace(f"[{section}]\n", f"[{section}]\n{lines}")
        node.config.write_text(text)

    return configure
