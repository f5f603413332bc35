# SPDX-License-Identifier: Apache-2.0
"""Which proxy of the environment stands between the service user and Glance or Keystone.

Targets are never asked through a proxy.
"""

from __future__ import annotations

import ipaddress
import re
from urllib import parse

import requests.utils

_UP_TO_HOST = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)?(?:.*@)?", re.DOTALL)


def proxy_for(url: str) -> str | None:
    """The proxy that requests would use, without its credentials; None for none."""
    found = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    if not found:
        return None
    # A parser may take a part of the password for the host.
    return _UP_TO_HOST.sub(r"\1", found)


def is_near(url: str) -> bool:
    """Whether the host is this one or in a private network, as hardly any is behind a proxy."""
    host = parse.urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or "." not in host
    return address.is_loopback or address.is_private


def is_loopback(url: str) -> bool:
    """Whether what is sent there does not leave the machine."""
    host = parse.urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
