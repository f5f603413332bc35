# SPDX-License-Identifier: Apache-2.0
"""Does Glance's own configuration let replicas become locations?

The options are small copies of Glance's: importing Glance would register them, and much more, in
its global configuration.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple
from urllib import parse

from oslo_config import cfg, types

from glance_repl_mw import opts
from glance_repl_mw.checks.deployment import Deployment
from glance_repl_mw.checks.finding import Finding, error, note, ok, warning
from glance_repl_mw.targets.base import Target

_STORE_OPTIONS = (cfg.ListOpt("stores", default=["file", "http"]),)
_STORE_GROUP = "glance_store"
# By any of these, the service user may be sent to an internal Glance.
_ANOTHER_GLANCE = ("endpoint_override", "valid_interfaces", "interface")
OPTIONS = (
    cfg.BoolOpt("show_multiple_locations", default=False),
    cfg.DictOpt("enabled_backends", default={}),
)
_QUOTA = cfg.IntOpt("image_location_quota", default=10)
_USER_QUOTAS = (
    cfg.StrOpt("user_storage_quota", default="0"),
    cfg.BoolOpt("use_keystone_limits", default=False),
)
_FILTER_GROUP = "import_filtering_opts"
_FILTER_OPTIONS = (
    cfg.ListOpt("allowed_schemes", bounds=True, default=["http", "https"]),
    cfg.ListOpt("disallowed_schemes", bounds=True, default=[]),
    cfg.ListOpt("allowed_hosts", types.HostAddress(), bounds=True, default=[]),
    cfg.ListOpt("disallowed_hosts", types.HostAddress(), bounds=True, default=[]),
    cfg.ListOpt("allowed_ports", types.Integer(1, 65535), bounds=True, default=[80, 443]),
    cfg.ListOpt("disallowed_ports", types.Integer(1, 65535), bounds=True, default=[]),
)


def check_locations(deployment: Deployment) -> Iterator[Finding]:
    """Whether Glance takes locations, here or where the service user is sent to."""
    conf = deployment.glance
    conf.register_opts(OPTIONS)
    where = "[DEFAULT] show_multiple_locations"
    service_user = deployment.replication.replication
    if conf.show_multiple_locations:
        yield ok(where, "is on")
    elif any(service_user[name] for name in _ANOTHER_GLANCE):
        yield ok(where, f"is off here; it must be on at the Glance that [{opts.GROUP}] names")
    else:
        remedy = "set it to True, or give the service user a Glance of its own"
        yield error(where, "is off, Glance takes no locations", remedy)


def check_quota(deployment: Deployment, targets: Collection[str]) -> Iterator[Finding]:
    """Whether an image may have a location at each target, besides that of its own store."""
    conf = deployment.glance
    conf.register_opt(_QUOTA)
    wanted = 1 + len(targets)
    if 0 <= conf.image_location_quota < wanted:
        yield warning(
            "[DEFAULT] image_location_quota",
            f"allows {conf.image_location_quota} locations; an image at all targets has {wanted}",
            f"set it to {wanted} or more, at each Glance that the service user is sent to",
        )


def check_user_quota(deployment: Deployment, targets: Collection[str]) -> Iterator[Finding]:
    """Tell that replicas count against the quotas of those who upload."""
    conf = deployment.glance
    conf.register_opts(_USER_QUOTAS)
    factor = 1 + len(targets)
    text = (
        "Glance counts the size of an image once for each of its locations, "
        f"{factor} times for one at all targets: let the limits be {factor} times as high"
    )
    for option in _USER_QUOTAS:
        if targets and _is_set(conf, option.name):
            yield note(f"[DEFAULT] {option.name}", text)


def _is_set(conf: cfg.ConfigOpts, name: str) -> bool:
    return conf[name] not in (False, "", "0")


def http_store_section(conf: cfg.ConfigOpts) -> str:
    """Where the options of the store stand by which Glance reads locations."""
    conf.register_opts(OPTIONS)
    names = [name for name, kind in conf.enabled_backends.items() if kind == "http"]
    return f"[{names[0]}]" if names else f"[{_STORE_GROUP}]"


def check_store(deployment: Deployment) -> Iterator[Finding]:
    conf = deployment.glance
    conf.register_opts(OPTIONS)
    conf.register_opts(_STORE_OPTIONS, group=_STORE_GROUP)
    targets = deployment.replication.replication.enabled_targets
    if not any(target.endswith(":http") for target in targets):
        return
    if conf.enabled_backends:
        where, kinds = "[DEFAULT] enabled_backends", list(conf.enabled_backends.values())
        remedy = "add http:http to it"
    else:
        where, kinds = f"[{_STORE_GROUP}] stores", conf.glance_store.stores
        remedy = "add http to it"
    if "http" in kinds:
        yield ok(where, "has an http store")
    else:
        yield error(where, "has no http store, Glance takes no HTTP locations", remedy)


def check_import_filter(deployment: Deployment, targets: dict[str, Target]) -> Iterator[Finding]:
    """Whether Glance's filter lets the locations of the targets pass; asks the name service."""
    conf = deployment.glance
    try:
        rules = ImportFilter(conf)
    except cfg.Error as problem:
        remedy = "lists of this section are written in brackets, as in allowed_ports = [80,443]"
        yield error(f"[{_FILTER_GROUP}]", str(problem), remedy)
        return
    urls = {
        name: url
        for name, target in targets.items()
        if parse.urlsplit(url := location_url(target)).scheme in ("http", "https")
    }
    refused: dict[str, list[str]] = {}
    for name, url in urls.items():
        refusal = rules.refusal(url)
        if refusal is None:
            yield ok(name, f"[{_FILTER_GROUP}] lets {url} pass")
        elif refusal.remedy:
            where = f"[{_FILTER_GROUP}] {refusal.option}"
            yield error(name, f"{where} refuses {refusal.text}", refusal.remedy)
        else:
            refused.setdefault(refusal.option, []).append(f"{refusal.text} of {name}")
    for option, texts in refused.items():
        text = f"refuses {', '.join(texts)}"
        yield error(f"[{_FILTER_GROUP}] {option}", text, rules.remedy(option, urls.values()))


def location_url(target: Target) -> str:
    """Where Glance reads the target's objects; empty where that is no URL of an option."""
    for option in ("location_url", "url"):
        # A GroupAttr's get() raises for an option that the driver does not have.
        url = getattr(target.conf, option, None)
        if url:
            return str(url)
    return ""


class Refusal(NamedTuple):
    """Why Glance's filter refuses a URL.

    :ivar text: what of the URL it is about
    :ivar remedy: empty where that depends on the URLs of all targets
    """

    option: str
    text: str
    remedy: str = ""


class ImportFilter:
    """What Glance asks of the URL of a location.

    :raises oslo_config.cfg.ConfigFileValueError: a list is not written as Glance reads it
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        conf.register_opts(_FILTER_OPTIONS, group=_FILTER_GROUP)
        self._lists = {opt.name: list(conf[_FILTER_GROUP][opt.name]) for opt in _FILTER_OPTIONS}

    def refusal(self, url: str) -> Refusal | None:
        """What is against the URL; None where it may pass."""
        parts = parse.urlsplit(url)
        host = parts.hostname or ""
        return (
            self._listed("schemes", parts.scheme)
            or self._listed("hosts", _normalized(host))
            # Glance looks at the port only where the URL names it.
            or (self._listed("ports", parts.port) if parts.port else None)
            or self._addresses(host, parts.port or (443 if parts.scheme == "https" else 80))
        )

    def remedy(self, option: str, urls: Iterable[str]) -> str:
        """What lets the URLs of all targets pass together, as far as this option goes."""
        if option.startswith("disallowed_"):
            return "take that from this list"
        parts = [parse.urlsplit(url) for url in urls]
        wanted: dict[str, list[str | int]] = {
            "allowed_schemes": [part.scheme for part in parts],
            "allowed_hosts": [part.hostname or "" for part in parts],
            "allowed_ports": [part.port for part in parts if part.port],
        }
        values = dict.fromkeys([*self._lists[option], *wanted[option]])
        is_new = option == "allowed_hosts" and not self._lists[option]
        others = "; all other hosts must then be listed too" if is_new else ""
        return f"set {option} = [{','.join(map(str, values))}]{others}"

    def _listed(self, kind: str, value: str | int) -> Refusal | None:
        """What the two lists of a kind say; where there is an allowed one, only that counts."""
        allowed = self._lists[f"allowed_{kind}"]
        what = f"the {kind.removesuffix('s')} {value}"
        if allowed:
            return None if value in allowed else Refusal(f"allowed_{kind}", what)
        if value in self._lists[f"disallowed_{kind}"]:
            return Refusal(f"disallowed_{kind}", what)
        return None

    def _addresses(self, host: str, port: int) -> Refusal | None:
        """Whether one of the host's addresses may be used."""
        if _normalized(host) in self._lists["allowed_hosts"]:
            return None
        try:
            addresses = _resolve(host, port)
        except OSError:
            remedy = "give a name that the name service knows, or an address"
            what = f"the host {host}, which cannot be resolved"
            return Refusal("allowed_hosts", what, remedy)
        if any(map(self._usable, addresses)):
            return None
        return Refusal("allowed_hosts", f"the host {host} (loopback, link-local or disallowed)")

    def _usable(self, address: str) -> bool:
        parsed = ipaddress.ip_address(address)
        mapped = getattr(parsed, "ipv4_mapped", None) or parsed
        if mapped.is_loopback or mapped.is_link_local:
            return False
        return bool(self._lists["allowed_hosts"]) or address not in self._lists["disallowed_hosts"]


def _normalized(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host


def _resolve(host: str, port: int) -> list[str]:
    """The host's addresses.

    :raises OSError: the name service knows none
    """
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        # As Glance does it: the dot keeps the resolver from reading a number as an address.
        found = socket.getaddrinfo(f"{host.removesuffix('.')}.", port)
    return [str(entry[4][0]).partition("%")[0] for entry in found]
