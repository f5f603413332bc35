# SPDX-License-Identifier: Apache-2.0
"""An ``ImageService`` whose Glance or Keystone is a server that sends what the test says."""

from oslo_config import cfg

from glance_repl_mw import opts
from glance_repl_mw.images import ImageService

IMAGE = "6f1f5a5e-1c0d-4d7e-9d0b-0c5f4d1f0a11"
RECORD = f'{{"id": "{IMAGE}", "status": "active", "size": 5}}'.encode()


def service_of(directory, **options):
    """The service with these options; there is no Keystone unless they name one."""
    file = directory / "replication.conf"
    lines = [f"{name} = {value}" for name, value in {"auth_type": "none", **options}.items()]
    file.write_text("\n".join(["[replication]", *lines]))
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], default_config_files=[str(file)], default_config_dirs=[])
    return ImageService(conf)


def keystone_of(url):
    """The options of a service user who is known to the Keystone at this URL."""
    return {
        "auth_type": "v3password",
        "auth_url": url,
        "username": "replicator",
        "password": "secret",
        "user_domain_id": "default",
        "project_name": "service",
        "project_domain_id": "default",
    }
