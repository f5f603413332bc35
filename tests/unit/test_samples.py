# SPDX-License-Identifier: Apache-2.0
"""The samples in etc/ are what the generators make of the options and rules that there are."""

from pathlib import Path

import pytest
from oslo_config import cfg, generator
from oslo_policy import generator as policy_generator

ETC = Path(__file__).parents[2] / "etc"
SAMPLES = ETC / "glance-repl-mw"


def generate_config(output):
    generator.main(
        ["--config-file", str(ETC / "config-generator.conf"), "--output-file", str(output)]
    )


def generate_policy(output):
    policy_generator.generate_sample(
        ["--config-file", str(ETC / "policy-generator.conf"), "--output-file", str(output)],
        cfg.ConfigOpts(),
    )


@pytest.mark.parametrize(
    ("name", "generate"),
    [
        ("replication.conf.sample", generate_config),
        ("replication-policy.yaml.sample", generate_policy),
    ],
)
def test_committed_sample_is_fresh(tmp_path, name, generate):
    generated = tmp_path / name
    generate(generated)
    text = generated.read_text()
    assert len(text) > 1000
    assert (SAMPLES / name).read_text() == text, "tox -e genconfig,genpolicy makes it anew"
