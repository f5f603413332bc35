# SPDX-License-Identifier: Apache-2.0
"""The embedded writer under uWSGI needs no request to start."""

import pytest

from tests.functional.cloud import Cloud
from tests.lab.glance import Glance
from tests.lab.process import wait_until
from tests.lab.uwsgi import PATIENT_SQLITE
from tests.lab.webservers import Nginx

WAIT_SECONDS = 60


class LazyGlance(Glance):
    """Counts as ready without being asked anything."""

    def ready(self):
        return self._all_workers_have_loaded()


class PreloadedGlance(Glance):
    """As LazyGlance; the master loads the application, and then forks."""

    def command(self):
        return [word for word in super().command() if word != "--lazy-apps"]

    def ready(self):
        return len(self.worker_pids()) == self.processes if self.running else False


@pytest.mark.parametrize("server", [LazyGlance, PreloadedGlance])
def test_writer_runs_before_the_first_request(keystone, workdir, require, server):
    require(Nginx)
    directory = workdir("early")
    targets = {"site-a": Nginx(directory / "site-a")}
    cloud = Cloud(
        directory,
        keystone,
        targets=targets,
        server=server,
        processes=2,
        uwsgi_arguments=PATIENT_SQLITE,
    )
    with cloud:
        (writer,) = wait_until(cloud.writers, WAIT_SECONDS, "a writer runs")
        assert cloud.glance.requests() == []
        cloud.assert_replicated(cloud.new_image(b"some bytes"), b"some bytes")
        assert [each.pid for each in cloud.writers()] == [writer.pid]
