# SPDX-License-Identifier: Apache-2.0
"""A reload ends the writer only where a new one could begin."""

import logging

import pytest
from oslo_config import cfg

from glance_repl_mw import exceptions
from glance_repl_mw.cmd.again import Reload


@pytest.mark.parametrize(
    "problem", [exceptions.ConfigError(hint="url: is\nmissing"), cfg.Error("no such file")]
)
def test_wrong_configuration_changes_nothing(problem, caplog):
    def examine():
        raise problem

    stopped = []
    reload = Reload(examine, lambda: stopped.append(True))
    with caplog.at_level(logging.ERROR):
        reload._run()
    assert (reload.is_due, stopped) == (False, [])
    (line,) = caplog.messages
    assert " ".join(str(problem).split()) in line


def test_right_configuration_ends_the_writer():
    stopped = []
    reload = Reload(lambda: None, lambda: stopped.append(reload.is_due))
    reload._run()
    assert stopped == [True]
