# SPDX-License-Identifier: Apache-2.0
"""Deployments after the recipes of doc/source/admin/security.rst, and the tables there."""

import re
from pathlib import Path

from tests.functional.cloud import Cloud
from tests.functional.test_target_faults import QUICK
from tests.lab.faults import FaultyTarget
from tests.lab.glance import Glance
from tests.lab.webservers import Nginx

TOP = Path(__file__).parents[2]
PAGE = TOP / "doc/source/admin/security.rst"
SAMPLES = TOP / "etc/glance-repl-mw"
SERVICE_USER = "copier"
PASSWORD = "lab-copier-password"
ROLE = "image_replicator"
STRANGER = "bob"


def policies(name):
    """Options by which Glance has the policies of this sample."""
    return {"oslo_policy": {"policy_file": str(SAMPLES / f"glance-policy-{name}.yaml.sample")}}


def add_users(keystone):
    """The service user with the smallest role, and somebody with a project of his own."""
    keystone.add_user(SERVICE_USER, PASSWORD, SERVICE_USER, (ROLE,))
    keystone.add_user(STRANGER, "lab-bob-password", STRANGER, ("member",))


class OneGlance(Cloud):
    """Users and the service user share one Glance; the latter has an application credential.

    Keystone is behind TLS, and the endpoint comes from the catalogue.
    """

    def __init__(self, directory, keystone, front, ca_file, region):
        targets = {
            "site-a": Nginx(directory / "site-a"),
            "held": FaultyTarget(Nginx(directory / "held")),
        }
        options = {
            "replication": QUICK,
            # Else Glance trusts a token for minutes after Keystone has revoked it.
            "keystone_authtoken": {"token_cache_time": "-1"},
            **policies("single"),
        }
        super().__init__(directory, keystone, targets=targets, options=options)
        replication = self.glance.options["replication"]
        for name in (*keystone.credentials(), "endpoint_override"):
            del replication[name]
        replication |= {
            "auth_type": "v3applicationcredential",
            **keystone.add_application_credential(SERVICE_USER, SERVICE_USER, "replication"),
            "auth_url": f"{front.url}v3",
            "cafile": str(ca_file),
            "region_name": region,
            "valid_interfaces": "internal",
        }


class TwoGlances(Cloud):
    """Users have a Glance that hides locations, the service user has another one."""

    def __init__(self, directory, keystone):
        hidden = {"DEFAULT": {"show_multiple_locations": "False"}}
        super().__init__(
            directory, keystone, options={"replication": QUICK, **hidden, **policies("public")}
        )
        public = self.glance
        self.internal = Glance(
            directory / "internal",
            keystone,
            processes=1,
            target_ports=public.target_ports,
            options={
                "database": {
                    "connection": f"sqlite:///{public.directory}/glance.sqlite?timeout=60"
                },
                "primary": {"filesystem_store_datadir": str(public.directory / "primary")},
                **policies("internal"),
            },
            paste_filters={
                "replication": {
                    "paste.filter_factory": "glance_repl_mw.filter:filter_factory",
                    "config_file": str(public.config_file),
                }
            },
        )
        public.options["replication"] |= {
            "endpoint_override": self.internal.url,
            **keystone.credentials(SERVICE_USER, SERVICE_USER),
        }

    def start(self):
        super().start()
        self.internal.start()
        return self

    def stop(self):
        self.internal.stop()
        super().stop()

    def image(self, image_id):
        """The public Glance shows locations to nobody."""
        path = f"v2/images/{image_id}"
        answer = self.request("GET", path, user=SERVICE_USER, glance=self.internal)
        answer.raise_for_status()
        return answer.json()


def table(label):
    """A table of the page: by the first cell of a row, the others by the names of the columns."""
    lines = iter(PAGE.read_text().partition(f".. _{label}:")[2].splitlines())
    rule = next(line for line in lines if line.startswith("=="))
    spans = [match.span() for match in re.finditer("=+", rule)]
    spans[-1] = (spans[-1][0], None)

    def cells(line):
        return [line[start:end].strip().replace("``", "") for start, end in spans]

    _, *columns = cells(next(lines))
    assert next(lines) == rule
    rows = {}
    for line in lines:
        if line == rule:
            return rows
        request, *answers = cells(line)
        rows[request] = dict(zip(columns, answers, strict=True))
    raise AssertionError(f"{label} has no end")
