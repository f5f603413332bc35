# SPDX-License-Identifier: Apache-2.0
"""Which targets an image goes to, and why."""

import pytest
from oslo_config import cfg

from glance_repl_mw import opts
from glance_repl_mw.choice import Choice
from glance_repl_mw.targets.opts import TARGET_OPTIONS
from tests.unit.test_rules import image

LAZY = {"mode": "lazy"}
PUBLIC = {"replicate_if": "visibility:public"}
SMALL = {"replicate_if": "size:<=1MiB"}


class Target:
    def __init__(self, conf):
        self.conf = conf


def choice_of(*, obeys=True, **targets):
    """A choice among targets with these options."""
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    for name, values in targets.items():
        conf.register_opts(TARGET_OPTIONS, group=name)
        for option, value in values.items():
            conf.set_default(option, value, group=name)
    conf([], default_config_files=[], default_config_dirs=[])
    conf.set_override("image_property_targets", obeys, group="replication")
    return Choice(conf, {name: Target(conf[name]) for name in targets})


def naming(value, **values):
    return image(properties={"replication_targets": value}, **values)


@pytest.mark.parametrize(
    ("options", "subject", "wanted", "why"),
    [
        ({}, image(), True, "mode is eager"),
        (LAZY, image(), False, "mode is lazy"),
        (PUBLIC, image(), True, "mode is eager, replicate_if holds"),
        (PUBLIC, image(visibility="private"), False, "visibility:public does not hold"),
        (SMALL, image(), False, "size:<=1MiB does not hold"),
        (SMALL, image(size=None), None, "not known yet"),
        (LAZY | SMALL, image(size=None), False, "mode is lazy"),
        ({}, naming("none"), False, "does not name it"),
        ({}, naming("other"), False, "does not name it"),
        ({}, naming("site"), True, "names it"),
        (LAZY, naming(" other , site "), True, "names it"),
        (LAZY, naming("all"), True, "names it"),
        (PUBLIC, naming("site", visibility="private"), False, "does not hold"),
        (PUBLIC, naming("site"), True, "names it, replicate_if holds"),
        ({}, naming(""), True, "mode is eager"),
        (LAZY, naming(" , "), False, "mode is lazy"),
        ({}, naming("site,none"), True, "names it"),
        ({}, naming("nowhere"), False, "does not name it"),
    ],
)
def test_verdict(options, subject, wanted, why):
    verdict = choice_of(site=options, other={}).verdict(subject, "site")
    assert verdict.wanted is wanted
    assert why in verdict.why


@pytest.mark.parametrize(
    ("options", "subject", "wanted"),
    [
        (LAZY, image(), True),
        (LAZY | PUBLIC, image(visibility="private"), False),
        (LAZY, naming("none"), False),
    ],
)
def test_on_demand_only_the_mode_does_not_count(options, subject, wanted):
    verdict = choice_of(site=options).verdict(subject, "site", on_demand=True)
    assert verdict.wanted is wanted


def test_property_counts_only_where_it_is_allowed():
    choice = choice_of(obeys=False, site={})
    assert choice.verdict(naming("none"), "site").wanted
    assert "image_property_targets is off" in choice.remarks(naming("none"))[0]


def test_unknown_targets_are_told():
    choice = choice_of(site={})
    assert "unknown targets: nowhere, sight" in choice.remarks(naming("site,sight,nowhere"))[0]
    for fine in (naming("site"), naming("all"), naming("none"), naming(""), image()):
        assert choice.remarks(fine) == []


@pytest.mark.parametrize(
    ("obeys", "options", "depends"),
    [(False, {}, False), (False, LAZY, False), (False, PUBLIC, True), (True, {}, True)],
)
def test_image_is_asked_for_only_where_something_depends_on_it(obeys, options, depends):
    choice = choice_of(obeys=obeys, site=options, other=LAZY)
    assert choice.depends_on_image is depends
    assert "other" not in choice.eager


def test_names_that_a_user_gives_forge_no_log_line():
    (remark,) = choice_of(site={}).remarks(naming("nope\nsite-a is down\x1b[31m"))
    assert "\n" not in remark
    assert "\x1b" not in remark
