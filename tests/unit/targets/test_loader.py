"""What stops the start: options of the node and of its targets that cannot work."""

import pytest

from glance_repl_mw import exceptions
from glance_repl_mw.checks.deployment import read
from glance_repl_mw.targets import loader
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
