# SPDX-License-Identifier: Apache-2.0
"""Keeps credentials out of what is printed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

from keystoneauth1 import loading
from keystoneauth1.exceptions import ClientException
from oslo_config import cfg

from glance_repl_mw import opts
from glance_repl_mw.targets.base import Target
from glance_repl_mw.urls import secrets_in, without_user_info

_HIDDEN = "***"


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without these secrets, and without user and password in URLs."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    return without_user_info(text)


def secrets_of(conf: cfg.ConfigOpts, targets: Iterable[Target]) -> set[str]:
    """The values of all secret options of replication that are set and can be read."""
    values = set(_values(conf, opts.GROUP, opts.REPLICATION_OPTIONS))
    values.update(_values(conf, *service_user_options(conf)))
    for target in targets:
        values.update(
            str(target.conf[opt.dest])
            for opt in target.options
            if opt.secret and target.conf[opt.dest]
        )
    for value in tuple(values):
        values |= secrets_in(value)
    return values


def service_user_options(conf: cfg.ConfigOpts) -> tuple[str, Sequence[cfg.Opt]]:
    """The section of the service user's credentials and the options of their plugin."""
    group = conf.replication.auth_section or opts.GROUP
    conf.register_opts(loading.get_auth_common_conf_options(), group=group)
    try:
        options = loading.get_auth_plugin_conf_options(conf[group].auth_type or "password")
    except ClientException:
        return group, ()
    conf.register_opts(options, group=group)
    return group, options


def _values(conf: cfg.ConfigOpts, group: str, options: Iterable[cfg.Opt]) -> Iterator[str]:
    for opt in options:
        with contextlib.suppress(cfg.Error):
            if opt.secret and conf[group][opt.dest]:
                yield str(conf[group][opt.dest])
