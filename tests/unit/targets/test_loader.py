# SPDX-License-Identifier: Apache-2.0
"""What stops the start: options of the node and of its targets that cannot work."""

import uuid

import pytest

from glance_repl_mw import exceptions
from glance_repl_mw.checks.deployment import read
from glance_repl_mw.replicas.name import LONGEST_TARGET, LONGEST_WITHOUT_TARGET, ObjectName
from glance_repl_mw.targets import loader
from glance_repl_mw.targets.http import PARTIAL
from tests.unit.checks.config import make_conf

SECTION = {"url": "http://127.0.0.1:1/images/"}


@pytest.fixture
def configure(tmp_path):
    """The configuration of one target, site-a, and what differs from it."""

    def configure(**sections):
        replication = {"enabled_targets": "site-a:http", **sections.pop("replication", {})}
        sections = {"replication:site-a": SECTION, **sections, "replication": replication}
        return read(make_conf(tmp_path, **sections)).replication

    return configure


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("reconcile_interval_seconds", "nan"),
        ("reconcile_interval_seconds", ""),
        ("probe_interval_seconds", "inf"),
        ("scrub_interval_seconds", "1e10"),
        ("retry_max_seconds", "inf"),
        ("missing_image_delay_seconds", "99999999999"),
        ("delete_delay_seconds", "99999999999"),
        ("take_over_after_seconds", "99999999999"),
        ("spool_max_bytes", ""),
        ("timeout", "soon"),
        ("connect_retry_delay", "nan"),
    ],
)
def test_value_that_would_stop_the_writer_stops_the_start(configure, option, value):
    with pytest.raises(exceptions.ConfigError, match=rf"\[replication\] {option}: ") as caught:
        loader.check_values(configure(replication={option: value}))
    assert value in caught.value.hint


@pytest.mark.parametrize(
    "option", ["stall_timeout_seconds", "connect_timeout_seconds", "withdraw_after_seconds"]
)
@pytest.mark.parametrize("value", ["nan", "inf", "1e10"])
def test_value_of_a_target_likewise(configure, option, value):
    says = rf"\[replication:site-a\] {option}: must be .*{value}"
    with pytest.raises(exceptions.ConfigError, match=says):
        loader.load_targets(configure(**{"replication:site-a": {**SECTION, option: value}}))


def test_name_of_a_target_leaves_room_in_names_of_objects(configure):
    name = "a" * LONGEST_TARGET
    conf = configure(
        replication={"enabled_targets": f"{name}:http"}, **{f"replication:{name}": SECTION}
    )
    assert list(loader.load_targets(conf)) == [name]
    longest = str(ObjectName(str(uuid.uuid4()), name, uuid.uuid4().hex, 10**18 - 1))
    assert len(longest) == LONGEST_WITHOUT_TARGET + LONGEST_TARGET
    assert len(longest + PARTIAL) <= 255


@pytest.mark.parametrize("count", [LONGEST_TARGET + 1, 300])
def test_longer_name_of_a_target_stops_the_start(configure, count):
    name = "a" * count
    conf = configure(
        replication={"enabled_targets": f"{name}:http"}, **{f"replication:{name}": SECTION}
    )
    says = rf"enabled_targets: the name a+\.\.\. has {count} characters; .* at most 128"
    with pytest.raises(exceptions.ConfigError, match=says):
        loader.load_targets(conf)
