# SPDX-License-Identifier: Apache-2.0
"""The service user's credentials, by keystoneauth, from ``[replication]``."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from typing import Any

import keystoneauth1.exceptions
from keystoneauth1 import adapter, loading
from oslo_config import cfg

from glance_repl_mw import bounded, exceptions, opts, substitution
from glance_repl_mw.seconds import LONGEST_TIMEOUT_SECONDS, Seconds
from glance_repl_mw.urls import is_http_url

_BY_PASSWORD = ("password", "v3password")
_BY_TOKEN = ("token", "v3token")
_BY_APPLICATION_CREDENTIAL = ("v3applicationcredential",)
_FILES = ("cafile", "certfile", "keyfile")
# To keystoneauth, any number will do.
_SECONDS = {
    "timeout": Seconds(0.1, LONGEST_TIMEOUT_SECONDS),
    "connect_retry_delay": Seconds(0.0, LONGEST_TIMEOUT_SECONDS),
    "status_code_retry_delay": Seconds(0.0, LONGEST_TIMEOUT_SECONDS),
}


def load_adapter(conf: cfg.ConfigOpts) -> adapter.Adapter:
    """What the options say about the session with Keystone and about Glance's endpoint.

    Opens no connection. Tells now what Keystone would say at the first request.

    :raises ConfigError: options are incomplete or wrong; names the section and the option
    """
    try:
        _check_session(conf)
        section = _register_plugin(conf)
        for names in _missing(conf[section]):
            hint = f"{names}: is missing (auth_type = {conf[section].auth_type})"
            raise _wrong(section, hint)
        _check_url(section, conf[section], "auth_url")
        auth = loading.load_auth_from_conf_options(conf, opts.GROUP)
        session = loading.load_session_from_conf_options(conf, opts.GROUP, auth=auth)
        bounded.bound(session.session)
        return loading.load_adapter_from_conf_options(conf, opts.GROUP, session=session)
    except keystoneauth1.exceptions.NoMatchingPlugin as error:
        raise _wrong(conf.replication.auth_section, f"auth_type: {error}") from error
    except (keystoneauth1.exceptions.ClientException, cfg.Error, TypeError) as error:
        hint = substitution.reason_and_option(error)
        raise _wrong(conf.replication.auth_section, hint) from error


def secrets(conf: cfg.ConfigOpts) -> list[str]:
    """The service user's passwords, tokens and the like; none where its options have none."""
    try:
        section = _register_plugin(conf)
        plugin_options = loading.get_auth_plugin_conf_options(conf[section].auth_type)
        values = {opt.dest: conf[section][opt.dest] for opt in plugin_options if opt.secret}
    except (exceptions.ConfigError, keystoneauth1.exceptions.NoMatchingPlugin, cfg.Error):
        return []
    return [f"{name}={value}" for name, value in sorted(values.items()) if value]


def _register_plugin(conf: cfg.ConfigOpts) -> str:
    """Make the plugin's options known; returns the section that they stand in."""
    section = conf.replication.auth_section or opts.GROUP
    conf.register_opts(loading.get_auth_common_conf_options(), group=section)
    if not conf[section].auth_type:
        raise _wrong(section, "auth_type: is missing")
    plugin_options = loading.get_auth_plugin_conf_options(conf[section].auth_type)
    conf.register_opts(plugin_options, group=section)
    for option in plugin_options:
        try:
            conf[section][option.dest]
        except (cfg.Error, ValueError) as error:
            raise _wrong(section, f"{option.name}: {substitution.reason(error)}") from None
    return section


def _missing(options: cfg.ConfigOpts.GroupAttr) -> Iterator[str]:
    """What a plugin cannot do without: the option, or those of which one is needed."""

    def lacks(*names: str) -> Iterator[str]:
        if not any(_value(options, name) for name in names):
            yield " or ".join(name for name in names if not name.startswith("default_"))

    kind = options.auth_type
    if kind not in (*_BY_PASSWORD, *_BY_TOKEN, *_BY_APPLICATION_CREDENTIAL):
        return
    yield from lacks("auth_url")
    by_name = kind in _BY_PASSWORD
    if kind in _BY_APPLICATION_CREDENTIAL:
        yield from lacks("application_credential_id", "application_credential_name")
        yield from lacks("application_credential_secret")
        by_name = not options.application_credential_id
    if by_name:
        yield from lacks("username", "user_id")
        if not options.user_id:
            yield from lacks(*_domain("user"))
    yield from lacks("password") if kind in _BY_PASSWORD else ()
    yield from lacks("token") if kind in _BY_TOKEN else ()
    # An application credential belongs to a project.
    if kind not in _BY_APPLICATION_CREDENTIAL and not options.trust_id:
        yield from lacks("project_name", "project_id")
        if not options.project_id:
            yield from lacks(*_domain("project"))


def _domain(whose: str) -> tuple[str, ...]:
    """The generic plugins have defaults for both domains."""
    kinds = ("id", "name")
    own = tuple(f"{whose}_domain_{kind}" for kind in kinds)
    return own + tuple(f"default_domain_{kind}" for kind in kinds)


def _value(options: cfg.ConfigOpts.GroupAttr, name: str) -> Any:
    # Not every plugin has every option.
    return getattr(options, name, None)


def _check_session(conf: cfg.ConfigOpts) -> None:
    options = conf.replication
    for name in _FILES:
        path = options[name]
        if path and not (os.path.isfile(path) and os.access(path, os.R_OK)):
            raise _wrong(opts.GROUP, f"{name}: {path} does not exist or cannot be read")
    if options.cafile:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(options.cafile)
        except OSError as error:
            raise _wrong(opts.GROUP, f"cafile: {options.cafile} is not usable: {error}") from error
    if options.keyfile and not options.certfile:
        raise _wrong(opts.GROUP, "keyfile: needs certfile")
    _check_url(opts.GROUP, options, "endpoint_override")
    given = {name: options[name] for name in _SECONDS if options[name] is not None}
    for name, seconds in given.items():
        try:
            _SECONDS[name](seconds)
        except ValueError as error:
            raise _wrong(opts.GROUP, f"{name}: {error}") from None


def _check_url(section: str, options: cfg.ConfigOpts.GroupAttr, name: str) -> None:
    url = _value(options, name)
    if url and not is_http_url(url):
        raise _wrong(section, f"{name}: is not a URL of the form http(s)://HOST[:PORT]/PATH")


def _wrong(section: str | None, hint: str) -> exceptions.ConfigError:
    where = "" if section in (None, opts.GROUP) else f"[{section}] "
    return exceptions.ConfigError(
        operation="read configuration", hint=f"[{opts.GROUP}] service user: {where}{hint}"
    )
