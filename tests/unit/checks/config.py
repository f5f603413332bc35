# SPDX-License-Identifier: Apache-2.0
"""Configurations for the tests of the checks."""

from oslo_config import cfg


def make_conf(directory, **sections):
    """A configuration read from DIRECTORY/glance-api.conf; options that are None are left out."""
    path = directory / "glance-api.conf"
    lines = []
    for section, options in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{name} = {value}" for name, value in options.items() if value is not None]
    path.write_text("\n".join([*lines, ""]))
    conf = cfg.ConfigOpts()
    conf(["--config-file", str(path)], project="glance", prog="glance-api", default_config_dirs=[])
    return conf
