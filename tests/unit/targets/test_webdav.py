# SPDX-License-Identifier: Apache-2.0
"""What is read from listings."""

import pytest

from glance_repl_mw.targets.listings import names_of_autoindex, names_of_multistatus

MULTISTATUS = b"""<?xml version="1.0"?>
<d:multistatus xmlns:d="DAV:">
  <d:response><d:href>/images/</d:href><d:propstat><d:prop>
    <d:resourcetype><d:collection/></d:resourcetype></d:prop></d:propstat></d:response>
  <d:response><d:href>/images/directory</d:href><d:propstat><d:prop>
    <d:resourcetype><d:collection/></d:resourcetype></d:prop></d:propstat></d:response>
  <d:response><d:href> http://a.example/images/a%20b </d:href><d:propstat><d:prop>
    <d:resourcetype/></d:prop></d:propstat></d:response>
  <d:response><d:href>/images/c%2525</d:href></d:response>
</d:multistatus>"""


def test_multistatus():
    assert list(names_of_multistatus([MULTISTATUS])) == ["a b", "c%25"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b'<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>',
        '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE x [<!ENTITY a "a">]><x>&a;</x>'.encode(
            "utf-16"
        ),
    ],
)
def test_something_else_is_not_a_multistatus(content):
    with pytest.raises(ValueError, match=r"not a listing|document type"):
        list(names_of_multistatus([content]))


def test_autoindex():
    content = b'[{"name": "a b", "type": "file", "size": 3}, {"name": "d", "type": "directory"}]'
    assert list(names_of_autoindex([content])) == ["a b"]


@pytest.mark.parametrize("content", [b"", b"<html>", b"[1]", b"{}x", b'[{"name": "a"}]', b"1"])
def test_something_else_is_not_an_autoindex(content):
    with pytest.raises(ValueError):
        list(names_of_autoindex([content]))
