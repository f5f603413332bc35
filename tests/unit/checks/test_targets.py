"""What is found wrong with the targets before any of them is asked."""

import pytest

from glance_repl_mw.checks import targets
from glance_repl_mw.checks.deployment import read
from tests.unit.checks.config import make_conf

SECTION = {"url": "http://127.0.0.1:1/images/"}


@pytest.mark.parametrize(
    ("local_target", "wrong"), [(None, False), ("site-a", False), ("site-x", True)]
)
def test_a_local_target_must_be_enabled(tmp_path, local_target, wrong):
    options = {"enabled_targets": "site-a:http", "local_target": local_target}
    conf = make_conf(tmp_path, **{"replication": options, "replication:site-a": SECTION})
    loaded, findings = targets.load(read(conf).replication)
    assert list(loaded) == ["site-a"]
    found = [(finding.where, finding.text) for finding in findings]
    expected = ("[replication] local_target", "'site-x' is not in enabled_targets")
    assert found == [expected] * wrong
