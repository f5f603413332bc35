"""One deployment for all tests of the REST interface."""

import pytest

from tests.functional.cloud import Cloud
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx


@pytest.fixture(scope="package")
def quiet(keystone, workdir, require):
    """A deployment that makes replicas only of uploads, and when it is asked."""
    require(Nginx)
    options = {"replication": {"automatic_backfill": "False", "probe_interval_seconds": "0.5"}}
    with Cloud(workdir("quiet"), keystone, options=options) as cloud:
        cloud.wake()

        def answers():
            return cloud.request("GET", "v2/replication/targets").ok

        # The first writer makes the tables.
        wait_until(answers, 60, "replication is asked in vain no more")
        yield cloud
