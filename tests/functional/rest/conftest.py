# SPDX-License-Identifier: Apache-2.0
"""One deployment for all tests of the REST interface."""

import pytest

from tests.functional.cloud import MIB, Cloud, three_targets
from tests.lab.faults import FaultyTarget
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx


@pytest.fixture(scope="package")
def quiet(keystone, workdir, require):
    """A deployment that makes replicas only of uploads, and when it is asked.

    What site-c receives is counted, and limited. The policy file is the operator's.
    """
    require(Nginx)
    directory = workdir("quiet")
    policy_file = directory / "policy.yaml"
    policy_file.write_text("{}")
    options = {
        "replication": {"automatic_backfill": "False", "probe_interval_seconds": "0.5"},
        "oslo_policy": {"policy_file": str(policy_file)},
    }
    targets = three_targets(directory)
    targets["site-c"] = FaultyTarget(targets["site-c"])
    limits = {"site-c": {"max_bytes_per_second": str(2 * MIB)}}
    with Cloud(
        directory, keystone, targets=targets, target_options=limits, options=options
    ) as cloud:
        cloud.policy_file = policy_file
        cloud.wake()

        def answers():
            return cloud.request("GET", "v2/replication/targets").ok

        # The first writer makes the tables.
        wait_until(answers, 60, "replication is asked in vain no more")
        yield cloud
