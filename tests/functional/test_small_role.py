# SPDX-License-Identifier: Apache-2.0
"""The check with the smallest role, at targets that are open and that want signatures."""

import pytest

from tests.functional import recipes
from tests.functional.cloud import Cloud
from tests.functional.recipes import SERVICE_USER, policies
from tests.functional.test_manage import manage
from tests.lab.webservers import Nginx, SignedNginx

KEY = "lab-key-number-one-0123456789"


@pytest.fixture(scope="module")
def cloud(keystone, workdir, require):
    require(Nginx)
    recipes.add_users(keystone)
    directory = workdir("small-role")
    signed = SignedNginx(directory / "signed", KEY)
    cloud = Cloud(
        directory,
        keystone,
        targets={"signed": signed, "open": Nginx(directory / "open", autoindex=True)},
        target_options={
            "signed": {
                "location_url": signed.location_url,
                "location_signing_key": KEY,
                "username": signed.username,
                "password": signed.password,
            }
        },
        options=policies("single"),
    )
    cloud.glance.target_ports = [*cloud.glance.target_ports, signed.location_port]
    cloud.glance.options["replication"] |= keystone.credentials(SERVICE_USER, SERVICE_USER)
    with cloud:
        yield cloud


def test_recipe_of_one_glance_ends_with_zero(cloud):
    # The check looks at an image of another project.
    cloud.wait_replicated(cloud.new_image(b"bytes"), ["open"])
    cloud.glance.config_file.chmod(0o640)
    command = ("--config-file", cloud.glance.config_file, "check")
    process = manage(*command)
    lines = process.stdout.splitlines()
    for target in ("signed", "open"):
        assert f"ok: {target}: Glance takes locations there" in lines, process.stdout
    bad = [line for line in lines if line.startswith(("warning: ", "error: "))]
    assert [line.split(":")[1] for line in bad] == [" [DEFAULT] show_multiple_locations"], bad
    assert process.returncode == 1
    accepted = manage(*command, "--acknowledge", "show_multiple_locations")
    assert accepted.returncode == 0, accepted.stdout
