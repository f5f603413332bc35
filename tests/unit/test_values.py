# SPDX-License-Identifier: Apache-2.0
"""Values with which nothing can be done are found before they are used, each with its option."""

import pytest
from oslo_config import cfg

from glance_repl_mw import exceptions, values

OPTIONS = [
    cfg.FloatOpt("rate", default=1.0),
    cfg.IntOpt("number", default=1, min=0),
    cfg.IntOpt("limit"),
    cfg.StrOpt("word", default=""),
]


@pytest.fixture
def read(tmp_path):
    def read(**written):
        lines = [f"{name} = {value}" for name, value in written.items()]
        (tmp_path / "conf").write_text("\n".join(["[place]", *lines, ""]))
        conf = cfg.ConfigOpts()
        conf.register_opts(OPTIONS, group="place")
        conf(["--config-file", str(tmp_path / "conf")], default_config_dirs=[])
        return conf

    return read


def test_every_wrong_value_is_found(read):
    conf = read(rate="nan", number="", limit="much", word="a$b")
    assert list(map(str, values.wrong_values(conf, "place", OPTIONS))) == [
        "[place] rate: must be a finite number, and is nan",
        "[place] number: is empty; give a value, or take the line out for 1",
        "[place] limit: invalid literal for int() with base 10: 'much'",
        "[place] word: holds a $, and what follows it is taken for the name of an option that "
        "is not there; write $$ for a $",
    ]


def test_first_wrong_value_is_an_error(read):
    with pytest.raises(
        exceptions.ConfigError, match=r"\[place\] rate: must be a finite"
    ) as caught:
        values.require_right_values(read(rate="inf", number=""), "place", OPTIONS)
    assert caught.value.operation == "read configuration"


def test_right_values_are_passed_over(read):
    values.require_right_values(read(rate="0.5", limit="", word=""), "place", OPTIONS)
