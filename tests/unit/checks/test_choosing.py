# SPDX-License-Identifier: Apache-2.0
"""What `check` says of the rules of targets."""

import pytest
from glance.common import config as glance_config

from glance_repl_mw.checks import choosing
from glance_repl_mw.checks.deployment import read
from tests.unit.checks.config import make_conf


class Conf:
    def __init__(self, rule):
        self.replicate_if = rule


class Target:
    def __init__(self, rule):
        self.conf = Conf(rule)


def findings(directory, rule="", **sections):
    deployment = read(make_conf(directory, **sections))
    return [str(each) for each in choosing.check(deployment, {"site-a": Target(rule)})]


@pytest.mark.parametrize("option", choosing._FORMATS, ids=lambda option: option.name)
def test_formats_are_those_of_glance(option):
    defaults = {each.name: each.default for each in glance_config.image_format_opts}
    assert option.default == defaults[option.name]


def test_formats_that_glance_does_not_take(tmp_path):
    rule = "disk_format:raw or not disk_format:qcow or container_format:bar and tag:x"
    first, second = findings(tmp_path, rule)
    assert first.startswith(
        "warning: [replication:site-a] replicate_if: Glance takes no image with the disk_format "
        "qcow;"
    )
    assert "container_format bar" in second
    formats = {"disk_formats": "raw,qcow", "container_formats": "bar"}
    assert findings(tmp_path, rule, image_format=formats) == []


def test_property_that_anybody_may_set_is_a_note(tmp_path):
    obeyed = {"image_property_targets": "true"}
    (line,) = findings(tmp_path, replication=obeyed)
    assert line.startswith("note: [replication] image_property_targets: whoever may change")
    protected = {"property_protection_file": "property-protections.conf"}
    assert findings(tmp_path, replication=obeyed, DEFAULT=protected) == []
    assert findings(tmp_path) == []
