# SPDX-License-Identifier: Apache-2.0
"""What an upload costs, counted: nothing here depends on how busy the machine is.

Each limit has the measured value beside it. Who goes beyond one has made uploads or the writer
dearer, and changes the limit only with a reason.
"""

import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from tests.functional.cloud import MIB, Cloud, at_once, three_targets
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

SIZE = 32 * MIB
SMALL = 64 << 10
SMALL_IMAGES = 12
CONNECTIONS = 2
# Requests to Glance per image besides the upload: its record once, its locations once.
GLANCE_REQUESTS = {"GET": 1, "PATCH": 1}
# All requests to Glance, those for lists too, per image that is older than the installation.
BACKFILL_REQUESTS = 3
OLD_IMAGES = 30
# Requests to a target per image: PUT and MOVE, HEAD by the writer and by Glance.
TARGET_REQUESTS = {"PUT": 1, "MOVE": 1, "HEAD": 4}  # 1, 1, 3
# Bytes that the API processes read and write, by system calls, for each byte of the body.
API_READ = 1.1  # 1.02
API_WRITTEN = 2.1  # 2.01: primary store and spool
API_WRITES_PER_MIB = 50  # 37
# Bytes that the writer reads for each byte of the body, besides what goes to targets: to hash it.
WRITER_HASHED = 1.1  # 1.00
# Bytes that it writes for each byte of the body and target.
WRITER_WRITTEN = 1.05  # 1.00
# The kernel copies from the spool to the sockets, in large pieces.
WRITER_CALLS_PER_MIB = 40  # 19
# Transactions that change the database, per image with three targets.
COMMITS = 9.5  # 8.0: one at the start, two for each target, one for all at the end
# How often the threads of a writer with nothing to do wake up, of three targets.
WAKE_UPS_PER_SECOND = 15  # 7
IDLE_SECONDS = 4
SECOND_LOOK_SECONDS = 6
# Threads for any number of uploads: Glance's pool, one per connection of each target, and a few
# for each target and task.
THREADS = 4 + 3 * CONNECTIONS + 27  # 31 to 34


@pytest.fixture(scope="module")
def cloud(keystone, workdir, require):
    require(Nginx)
    directory = workdir("costs")
    targets = three_targets(directory)
    running = Cloud(
        directory,
        keystone,
        targets=targets,
        target_options={name: {"max_connections": str(CONNECTIONS)} for name in targets},
        options={
            # Else what it reads for other reasons would be counted, too.
            "replication": {
                "scrub_bytes_per_second": "0",
                "probe_interval_seconds": "3600",
                # On a busy machine, targets may be ready at different times.
                "location_batch_seconds": "60",
            }
        },
    )
    with running:
        running.new_image(image_bytes(SMALL))
        running.wait_settled()
        yield running


class Meter:
    """What some processes have read and written since it was made, by system calls."""

    def __init__(self, pids):
        self._processes = [psutil.Process(pid) for pid in pids]
        self._begin = self._now()

    def _now(self):
        total = Counter()
        for process in self._processes:
            counters = process.io_counters()
            total.update(
                read=counters.read_chars,
                written=counters.write_chars,
                reads=counters.read_count,
                writes=counters.write_count,
            )
        return total

    def counted(self):
        return self._now() - self._begin


def commits(cloud):
    """Transactions that have changed the SQLite file, as its header counts them."""
    with open(cloud.connection.removeprefix("sqlite:///"), "rb") as file:
        return int.from_bytes(file.read(28)[24:])


def test_upload_is_read_once_hashed_once_and_sent_once_to_each_target(cloud):
    body = image_bytes(SIZE)
    image_id = cloud.create_image()
    api, writer = Meter(cloud.glance.worker_pids()), Meter([cloud.writer().pid])
    # Into how many pieces the body falls must not depend on how fast it comes.
    suspended = cloud.writer()
    suspended.suspend()
    assert cloud.upload(image_id, body).status_code == 204
    suspended.resume()
    cloud.wait_settled()
    mine, theirs = writer.counted(), api.counted()
    assert set(cloud.statuses(image_id).values()) == {"active"}
    assert cloud.downloads(image_id) == []
    assert theirs["read"] / SIZE <= API_READ, theirs
    assert theirs["written"] / SIZE <= API_WRITTEN, theirs
    assert theirs["writes"] / (SIZE / MIB) <= API_WRITES_PER_MIB, theirs
    assert mine["written"] / SIZE / len(cloud.targets) <= WRITER_WRITTEN, mine
    assert (mine["read"] - mine["written"]) / SIZE <= WRITER_HASHED, mine
    assert (mine["reads"] + mine["writes"]) / (SIZE / MIB) <= WRITER_CALLS_PER_MIB, mine


def test_small_images_cost_few_requests_transactions_and_threads(cloud):
    ids = [cloud.create_image() for _ in range(SMALL_IMAGES)]
    before = commits(cloud)

    def upload(image_id):
        assert cloud.upload(image_id, image_bytes(SMALL)).status_code == 204

    at_once(4, upload, ids)
    cloud.wait_settled()
    changed = commits(cloud) - before
    threads = cloud.writer().num_threads()
    for image_id in ids:
        assert set(cloud.statuses(image_id).values()) == {"active"}
    asked = requests_of(cloud.glance, ids)
    assert asked.pop("PUT") == SMALL_IMAGES
    assert asked == Counter({each: n * SMALL_IMAGES for each, n in GLANCE_REQUESTS.items()})
    for target in cloud.targets.values():
        sent = requests_of(target, ids)
        assert set(sent) <= set(TARGET_REQUESTS), sent
        assert all(sent[each] <= n * SMALL_IMAGES for each, n in TARGET_REQUESTS.items()), sent
    assert changed / SMALL_IMAGES <= COMMITS
    assert threads <= THREADS


def test_older_images_cost_few_requests_to_glance(keystone, workdir, require):
    """For all targets together; its bytes are read once."""
    require(Nginx)
    cloud = Cloud(workdir("older"), keystone)
    filters, cloud.glance.paste_filters = cloud.glance.paste_filters, {}
    with cloud:
        ids = at_once(4, cloud.new_image, [image_bytes(SMALL) for _ in range(OLD_IMAGES)])
        cloud.glance.paste_filters = filters
        cloud.glance.write_config()
        cloud.glance.reload()
        before = len(cloud.glance.requests())
        cloud.wake()
        wanted = OLD_IMAGES * len(cloud.targets)

        def done():
            # Asks the database, since what is asked of Glance is counted.
            return [row.status for row in cloud.rows()].count("active") == wanted

        wait_until(done, 60, "all are replicated")
        asked = [each for each in cloud.glance.requests()[before:] if each.path != "/"]
        assert all(len(cloud.downloads(image_id)) == 1 for image_id in ids)
    methods = Counter(request.method for request in asked)
    assert len(asked) / OLD_IMAGES <= BACKFILL_REQUESTS, methods


def test_idle_writer_sleeps(cloud):
    cloud.wait_settled()
    # What was just added is looked at once more.
    time.sleep(SECOND_LOOK_SECONDS)
    before = wake_ups(cloud.writer().pid)
    time.sleep(IDLE_SECONDS)
    assert (wake_ups(cloud.writer().pid) - before) / IDLE_SECONDS <= WAKE_UPS_PER_SECOND


def wake_ups(pid):
    """How often threads of the process have stopped waiting so far."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(
        int(line.split()[1])
        for task in tasks
        for line in (task / "status").read_text().splitlines()
        if line.startswith("voluntary_ctxt_switches")
    )


def requests_of(server, ids):
    """How often each method was used for one of these images."""
    return Counter(
        request.method
        for request in server.requests()
        if any(image_id in request.path.partition("?")[0] for image_id in ids)
    )
