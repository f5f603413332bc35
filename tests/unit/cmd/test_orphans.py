# SPDX-License-Identifier: Apache-2.0
"""`verify --orphans`: a target that cannot be listed keeps no other from being looked at."""

import json
import uuid

import pytest

from glance_repl_mw import exceptions
from glance_repl_mw.cmd import orphans
from tests.unit.reconciler.target_lab import SITE, Lab

OTHER = "site-b"


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path)
    lab.orphan = f"{uuid.uuid4()}.{uuid.uuid4().hex}.1"
    lab.target.objects[lab.orphan] = b"left over"

    class Mute:
        name = OTHER

        def list(self):
            raise exceptions.TargetRefused(target=OTHER, hint="405 Not \x1b[31mAllowed")

    lab.tools.targets[OTHER] = Mute()
    yield lab
    lab.close()


@pytest.mark.parametrize("targets", [[SITE, OTHER], [OTHER, SITE]])
def test_others_are_looked_at(lab, capsys, targets):
    assert orphans.run(lab.tools, targets, delete=False, as_json=True) == 2
    captured = capsys.readouterr()
    (line,) = json.loads(captured.out)
    assert (line["target"], line["object_name"], line["state"]) == (SITE, lab.orphan, "orphan")
    assert captured.err == f"{OTHER}: not looked at to the end: 405 Not Allowed\n"


def test_nothing_is_said_to_be_complete(lab, capsys):
    assert orphans.run(lab.tools, [OTHER], delete=False, as_json=False) == 2
    assert "accounted" not in capsys.readouterr().out


def test_others_are_cleaned(lab):
    lab.add_witness()
    assert orphans.run(lab.tools, [OTHER, SITE], delete=True, as_json=False) == 2
    assert lab.target.objects == {}
