# SPDX-License-Identifier: Apache-2.0
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


ELSEWHERE = {"url": "http://127.0.0.1:1/others/"}
OF_ONE_PLACE = (
    "[replication:site-b] url: leads to the same place as that of [replication:site-a]; "
    "each target needs a collection of its own"
)


@pytest.mark.parametrize(
    ("of_another", "wrong"),
    [(ELSEWHERE, []), ({"url": "ftp://h/"}, ["[replication:site-c] url: is not a URL"])],
)
def test_targets_of_one_place_are_told_whatever_is_wrong_with_others(tmp_path, of_another, wrong):
    options = {"enabled_targets": "site-a:http,site-b:http,site-c:http"}
    sections = {f"replication:site-{each}": SECTION for each in "ab"}
    conf = make_conf(
        tmp_path, replication=options, **sections, **{"replication:site-c": of_another}
    )
    loaded, findings = targets.load(read(conf).replication)
    # Neither is tried: one of them has the objects.
    assert list(loaded) == ["site-c"] * (not wrong)
    *others, last = findings
    assert (last.where, last.text) == ("site-b", OF_ONE_PLACE)
    assert [each.text[: len(text)] for each, text in zip(others, wrong, strict=True)] == wrong


def test_all_that_is_wrong_is_told_each_once(tmp_path):
    entries = "site-a:http,site-a:http,site/b:http,site-c:ftp,site-d:http"
    options = {"enabled_targets": entries, "local_target": "site-x"}
    conf = make_conf(tmp_path, **{"replication": options, "replication:site-a": SECTION})
    loaded, findings = targets.load(read(conf).replication)
    assert list(loaded) == ["site-a"]
    starts = [
        "target 'site-a' is named twice",
        "'site/b:http' is not",
        "target 'site-c': no driver",
    ]
    starts += ["the section [replication:site-d] is missing", "'site-x' is not in"]
    assert [
        each.text[: len(start)] for each, start in zip(findings, starts, strict=True)
    ] == starts
