# SPDX-License-Identifier: Apache-2.0
"""What is told of a ``$`` in a value, and which values have one that counts."""

import pytest
from oslo_config import cfg

from glance_repl_mw import substitution


@pytest.mark.parametrize(
    ("value", "counts"),
    [
        ("secret", False),
        ("a$b", True),
        ("a${b}", True),
        ("$b", True),
        ("a$$b", False),
        ("a$$$b", True),
        ("a$", False),
        ("a$1", False),
    ],
)
def test_a_dollar_counts_where_a_name_follows(value, counts):
    assert substitution.is_in(value) is counts


def test_reason_holds_nothing_of_the_value():
    assert "hush" not in substitution.reason(cfg.NoSuchOptError("hush"))
    assert substitution.reason(ValueError("5 is not valid: too small")) == "too small"


def test_option_is_named_where_the_error_names_it(tmp_path):
    (tmp_path / "conf").write_text("[DEFAULT]\nnumber = much\n")
    conf = cfg.ConfigOpts()
    conf.register_opt(cfg.IntOpt("number"))
    conf(["--config-file", str(tmp_path / "conf")], default_config_dirs=[])
    with pytest.raises(cfg.Error) as caught:
        _ = conf.number
    told = substitution.reason_and_option(caught.value)
    assert told == "number: invalid literal for int() with base 10: 'much'"
    assert substitution.reason_and_option(cfg.Error("another")) == "another"
