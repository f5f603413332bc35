# SPDX-License-Identifier: Apache-2.0
"""`verify`: which replicas it takes, and when it gives up."""

from collections import Counter

import pytest

from glance_repl_mw import exceptions
from glance_repl_mw.cmd import verify
from glance_repl_mw.reconciler.verification import Verifier
from tests.unit.reconciler.target_lab import SITE, Lab, days

CREDENTIALS = "auth_type = none\nendpoint_override = http://127.0.0.1:1/\n"


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path)
    yield lab
    lab.close()


def outcomes(lab, pages):
    found = verify._verify(lab.tools, Verifier(lab.tools), iter(pages), False)
    return [str(verdict.outcome) for _, verdict in found]


def test_all_active_replicas_are_taken_page_by_page(lab, monkeypatch):
    monkeypatch.setattr(verify, "_PAGE", 2)
    for _ in range(5):
        lab.add()
    pages = list(verify._active(lab.tools, SITE))
    assert [len(page) for page in pages] == [2, 2, 1]
    assert outcomes(lab, pages) == ["good"] * 5


def test_every_replica_has_its_chance_to_be_in_the_sample(lab):
    pages = [["a", "b"], ["c", "d", "e"]]
    seen = Counter(name for _ in range(200) for name in verify._sample(iter(pages), 2))
    assert set(seen) == {"a", "b", "c", "d", "e"}
    assert sum(seen.values()) == 400


def test_sample_of_more_than_there_are(lab):
    assert verify._sample(iter([["a"], ["b"]]), 3) == ["a", "b"]


def test_target_that_fails_several_times_in_a_row_is_not_asked_any_more(lab):
    rows = [lab.row(lab.add(verified_at=days(1))) for _ in range(6)]
    for row in rows[1:]:
        lab.target.errors[row.object_name] = exceptions.TargetUnavailable(hint="500")
    assert outcomes(lab, [rows[:5], rows[5:]]) == ["good"] + ["unknown"] * 5
    assert len(lab.target.asked) == 4


def test_database_that_is_yet_to_be_made(node):
    text = node.config.read_text().replace("[replication]\n", f"[replication]\n{CREDENTIALS}", 1)
    node.config.write_text(text)
    status, out, err = node.run("verify")
    assert (status, out) == (2, "")
    assert "no tables yet" in err
    assert not node.database_file.exists()


@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_sample_must_be_a_number_from_one_on(node, number):
    with pytest.raises(SystemExit) as ended:
        node.run("verify", "--sample", number)
    assert ended.value.code == 2
