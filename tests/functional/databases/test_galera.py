# SPDX-License-Identifier: Apache-2.0
"""Rows in a Galera cluster whose nodes are all written to."""

import collections
import multiprocessing
import random

import pytest

from glance_repl_mw.checks.database import _galera
from glance_repl_mw.db import schema
from glance_repl_mw.db.store import ReplicaStore
from glance_repl_mw.db.survey import ReplicaSurvey
from glance_repl_mw.spool.upload import Upload, UploadState
from tests.lab.galera import Galera
from tests.lab.process import wait_until

IMAGES = [f"{number:08d}-0000-4000-8000-000000000000" for number in range(3)]
CHANGES = 25
PROCESSES_PER_NODE = 2


@pytest.fixture(scope="module")
def galera(workdir, require):
    require(Galera)
    directory = workdir("galera")
    with Galera(directory) as cluster:
        yield cluster


def count_up(connection, name, changes, seed, results):
    """Change rows as writers do, each change if the row is as it was read; tell what succeeded."""
    survey = ReplicaSurvey(schema.open_database(connection))
    rng = random.Random(seed)
    done = collections.Counter()
    while done.total() < changes:
        image_id = rng.choice(IMAGES)
        (row,) = survey.of_images([image_id])[image_id]
        if survey.change(row, node=name, attempts=row.attempts + 1):
            done[image_id] += 1
    results.put(done)


def test_check_tells_of_the_cluster(galera):
    (first, *_) = galera.new_owned_databases()
    database = schema.open_database(first)
    (finding,) = _galera("where", database)
    assert finding.level == "ok"
    assert "a Galera cluster of 3 nodes" in finding.text


def test_no_change_of_a_row_is_lost_between_nodes(galera):
    connections = galera.new_owned_databases()
    schema.upgrade(schema.open_database(connections[0]))
    store = ReplicaStore(schema.open_database(connections[0]))
    for number, image_id in enumerate(IMAGES):
        upload = Upload(f"{number:032d}", image_id, 1, UploadState.ACCEPTED, created_at=0.0)
        store.begin(upload, ["site-a"])
    surveys = [ReplicaSurvey(schema.open_database(each)) for each in connections]
    for survey in surveys:
        wait_until(lambda survey=survey: len(survey.of_images(IMAGES)) == 3, 60, "rows are there")
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [
        context.Process(
            target=count_up, args=(connection, f"node-{number}", CHANGES, number, results)
        )
        for number, connection in enumerate(connections * PROCESSES_PER_NODE)
    ]
    for worker in workers:
        worker.start()
    done = sum((results.get(timeout=300) for _ in workers), collections.Counter())
    for worker in workers:
        worker.join()
    assert done.total() == CHANGES * len(workers)
    for survey in surveys:
        wait_until(lambda survey=survey: counted(survey)[0] == done, 60, "every node has them all")
        assert counted(survey)[1] == done


def counted(survey):
    """By image: how often it was changed, as the rows' counters and as their versions say."""
    rows = survey.of_images(IMAGES)
    attempts = {image_id: row.attempts for image_id, (row,) in rows.items()}
    versions = {image_id: row.version for image_id, (row,) in rows.items()}
    return attempts, versions
