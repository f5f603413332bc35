# SPDX-License-Identifier: Apache-2.0
"""Numbers of seconds that would stop the writer, or let it spin, are no values of options."""

import threading

import pytest
from oslo_config import cfg

from glance_repl_mw import opts
from glance_repl_mw.seconds import LONGEST_SECONDS, LONGEST_TIMEOUT_SECONDS, SecondsOpt
from glance_repl_mw.targets import loader

OWN = [
    option
    for _, options in (("", opts.OPTIONS), *loader.list_opts())
    for option in options
    if option.name.endswith("_seconds") or isinstance(option, cfg.FloatOpt)
]


@pytest.fixture
def read(tmp_path):
    """What an option has that is written so."""

    def read(value, **bounds):
        (tmp_path / "conf").write_text(f"[DEFAULT]\npause_seconds = {value}\n")
        conf = cfg.ConfigOpts()
        conf.register_opt(SecondsOpt("pause_seconds", **bounds))
        conf(["--config-file", str(tmp_path / "conf")], default_config_dirs=[])
        return conf.pause_seconds

    return read


@pytest.mark.parametrize("option", OWN, ids=lambda option: option.name)
def test_every_option_of_ours_is_bounded(option):
    assert isinstance(option, SecondsOpt)
    assert option.type.min >= 0
    assert option.type.max in (LONGEST_SECONDS, LONGEST_TIMEOUT_SECONDS)


@pytest.mark.parametrize(
    "value", ["nan", "-nan", "inf", "-inf", "Infinity", "1e10", "99999999999", "0", "daily"]
)
@pytest.mark.parametrize("whole", [False, True])
def test_what_no_clock_counts_is_refused(read, value, whole):
    kind = "whole number" if whole else "number"
    says = f"must be a {kind} of seconds from 1 to {LONGEST_SECONDS}, and is '{value}'"
    with pytest.raises(cfg.ConfigFileValueError, match=says):
        read(value, min=1, whole=whole)


def test_a_long_wrong_value_is_cut(read):
    with pytest.raises(cfg.ConfigFileValueError) as caught:
        read("9" * 5000, min=1, whole=True)
    assert len(str(caught.value)) < 300


def test_what_is_within_the_bounds_is_a_number_of_its_kind(read):
    assert read(LONGEST_SECONDS, min=0) == LONGEST_SECONDS
    assert (read("0.5", min=0), read("5", min=0, whole=True)) == (0.5, 5)
    assert isinstance(read("5", min=0), float)
    assert read("", min=1) is None


def test_the_longest_waits_can_be_waited():
    woken = threading.Event()
    woken.set()
    assert woken.wait(2.0 * LONGEST_SECONDS)
    # What poll(2) takes at most.
    assert LONGEST_TIMEOUT_SECONDS * 1000 < 2**31
