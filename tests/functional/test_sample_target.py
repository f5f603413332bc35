# SPDX-License-Identifier: Apache-2.0
"""The plain nginx target of the documents, with just the file that they show."""

import pytest
import requests

from tests.functional.cloud import MIB, Cloud
from tests.functional.test_manage import manage
from tests.lab.images import image_bytes
from tests.lab.webservers import SampleNginx

SITE = "site-a"


@pytest.fixture(scope="module")
def cloud(keystone, workdir, require):
    require(SampleNginx)
    directory = workdir("sample-target")
    server = SampleNginx(directory / SITE)
    credentials = {"username": server.username, "password": server.password}
    with Cloud(
        directory, keystone, targets={SITE: server}, target_options={SITE: credentials}
    ) as running:
        yield running


def test_images_larger_than_the_default_of_nginx_are_replicated(cloud):
    body = image_bytes(21 * MIB)
    cloud.assert_replicated(cloud.new_image(body), body)


def test_check_finds_nothing_to_mend(cloud):
    process = manage("--config-file", cloud.glance.config_file, "check")
    lines = [line for line in process.stdout.splitlines() if f"{SITE}: " in line]
    assert f"ok: {SITE}: Glance takes locations there" in lines
    assert not [line for line in lines if line.startswith(("warning: ", "error: "))], lines
    assert not [line for line in lines if "does not list" in line or "no MOVE" in line], lines


def test_orphans_can_be_looked_for(cloud):
    process = manage("--config-file", cloud.glance.config_file, "verify", "--orphans")
    assert (process.returncode, process.stderr) == (0, ""), process.stdout


@pytest.mark.parametrize("method", ["PUT", "DELETE", "MOVE"])
def test_only_the_writers_change_it(cloud, method):
    url = f"{cloud.targets[SITE].url}a-name"
    assert requests.request(method, url, data=b"x", timeout=60).status_code == 401
