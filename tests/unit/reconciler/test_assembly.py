# SPDX-License-Identifier: Apache-2.0
"""What is known of whether locations can be read."""

import pytest

from glance_repl_mw.reconciler import assembly
from tests.unit.reconciler.target_lab import PRIMARY, Lab, url_of


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path)
    yield lab
    lab.close()


@pytest.mark.parametrize(
    ("events", "is_known", "may_be"),
    [
        pytest.param("", False, True, id="nobody has asked yet"),
        pytest.param("+", True, True, id="up"),
        pytest.param("+-", False, True, id="the last answer was bad"),
        pytest.param("+---", False, False, id="down"),
    ],
)
def test_location_of_ours_is_as_its_target_was_seen(lab, events, is_known, may_be):
    for event in events:
        lab.health.succeeded() if event == "+" else lab.health.failed(OSError("down"))
    readability = assembly.readability(lab.tools.targets, lab.tools.health)
    url = url_of("an object")
    assert (readability.is_known(url), readability.may_be(url)) == (is_known, may_be)
    assert readability.is_known(PRIMARY)
    assert readability.may_be(PRIMARY)
