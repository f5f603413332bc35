# SPDX-License-Identifier: Apache-2.0
"""A proxy of the environment between the service user and Glance is told."""

import pytest

from glance_repl_mw.checks import proxies


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        for each in (name, name.upper()):
            monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv("http_proxy", "http://user:pw@proxy.example:3128")


@pytest.mark.parametrize(
    ("url", "level"),
    [
        ("http://127.0.0.1:9292", "warning"),
        ("http://localhost:9292", "warning"),
        ("http://10.0.0.7:9292", "warning"),
        ("http://controller:9292", "warning"),
        ("http://glance.example:9292", "note"),
        ("https://glance.example:9292", None),
        (None, None),
    ],
)
def test_proxy_is_named(url, level):
    lines = [str(finding) for finding in proxies.check("Glance", url)]
    assert [line.partition(":")[0] for line in lines] == ([level] if level else [])
    assert all("through the proxy http://proxy.example:3128" in line for line in lines)
    assert not any("pw@" in line for line in lines)
    assert ("no_proxy" in "".join(lines)) is (level == "warning")


@pytest.mark.parametrize(
    "password", ["hunter2#", "hunter2/x", "[hunter2", "a@hunter2:/", "a://hunter2"]
)
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_password_of_a_proxy_is_not_shown(monkeypatch, password, scheme):
    monkeypatch.setenv("http_proxy", f"{scheme}user:{password}@proxy.example:3128")
    (finding,) = proxies.check("Glance", "http://glance.example:9292")
    assert f"through the proxy {scheme}proxy.example:3128," in str(finding)
    assert "hunter2" not in str(finding)


def test_no_proxy_is_obeyed(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    assert list(proxies.check("Glance", "http://127.0.0.1:9292")) == []
