# SPDX-License-Identifier: Apache-2.0
"""A target whose name is gone from the DNS, and one whose disk is full."""

import pytest

from tests.functional.cloud import Cloud
from tests.functional.test_spool import fill, mounted
from tests.functional.test_target_faults import (
    QUICK,
    SOON,
    upload_despite,
    wait_failed,
)
from tests.lab.glance import Glance
from tests.lab.process import HOST
from tests.lab.webservers import Nginx

NAME = "replicas.example"
LOOK_INTO_FILES = "hosts: files\n"
MOUNT = """set -e
mount --bind "$0" /etc/hosts
mount --bind "$1" /etc/nsswitch.conf
shift
exec "$@\"
"""


class NamedNginx(Nginx):
    """Is reached by a name."""

    @property
    def url(self):
        return super().url.replace(HOST, NAME)


class OwnHosts(Glance):
    """Glance and its writer look names up in a file of their own."""

    @property
    def hosts(self):
        return self.directory / "hosts"

    def prepare(self):
        super().prepare()
        (self.directory / "nsswitch.conf").write_text(LOOK_INTO_FILES)
        self.know_name()

    def know_name(self):
        # Glance asks for the name with the dot at its end.
        self.hosts.write_text(f"{HOST} localhost {NAME} {NAME}.\n")

    def forget_name(self):
        self.hosts.write_text(f"{HOST} localhost\n")

    def command(self):
        files = [str(self.hosts), str(self.directory / "nsswitch.conf")]
        return ["unshare", "--mount", "sh", "-c", MOUNT, *files, *super().command()]


@pytest.fixture(scope="module")
def cloud(keystone, workdir, require):
    """One healthy target, one with a name, and one with little room."""
    require(Nginx)
    directory = workdir("place-faults")
    targets = {
        "site-a": Nginx(directory / "site-a"),
        "named": NamedNginx(directory / "named"),
        "small": Nginx(directory / "small"),
    }
    options = {
        "replication": QUICK,
        "import_filtering_opts": {"allowed_hosts": f"[{HOST},{NAME}]"},
    }
    disk = targets["small"].directory
    disk.mkdir()
    with (
        mounted(disk),
        Cloud(
            directory,
            keystone,
            targets=targets,
            target_options={"named": SOON, "small": SOON},
            options=options,
            server=OwnHosts,
        ) as cloud,
    ):
        yield cloud


def test_name_that_is_gone(cloud):
    cloud.glance.forget_name()
    try:
        image_id, body = upload_despite(cloud, "named")
        row = wait_failed(cloud, image_id, "named")
        assert "Name or service not known" in row.error
    finally:
        cloud.glance.know_name()
    cloud.assert_replicated(image_id, body)


def test_disk_of_a_target_that_is_full(cloud):
    ballast = cloud.targets["small"].directory / "ballast"
    fill(ballast)
    try:
        image_id, body = upload_despite(cloud, "small")
        row = wait_failed(cloud, image_id, "small")
        assert ": 500 Internal Server Error" in row.error
    finally:
        ballast.unlink()
    cloud.assert_replicated(image_id, body)
