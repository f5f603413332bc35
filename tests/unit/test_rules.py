# SPDX-License-Identifier: Apache-2.0
"""Conditions on images: which texts are some, and for which images they hold."""

import pytest

from glance_repl_mw.model import Image
from glance_repl_mw.rules import Rule

GIB = 1 << 30


def image(**values):
    record = {
        "status": "active",
        "size": GIB,
        "visibility": "public",
        "owner": "4f2a",
        "container_format": "bare",
        "disk_format": "qcow2",
        "tags": frozenset({"golden", "my tag"}),
        "properties": {"os_distro": "debian", "org.example:kind": "base"},
        **values,
    }
    hashes = dict.fromkeys(("checksum", "os_hash_algo", "os_hash_value"))
    return Image("an-image", locations=(), **hashes, **record)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "visibility:public",
        "owner:4f2a and container_format:bare and disk_format:qcow2",
        "visibility:private or tag:golden",
        "visibility:private or not (tag:scratch or disk_format:iso)",
        "visibility:private and tag:golden or disk_format:qcow2",
        "tag:my%20tag",
        "property:os_distro",
        "property:os_distro=debian",
        "property:org.example:kind=base",
        "size:<=1GiB",
        "size:>=1073741824",
        "size:<1.1GiB and size:>1GB",
        "size:>1000kB and size:>1000KB and size:>100B",
        "visibility:public\n and tag:golden",
    ],
)
def test_rule_holds(text):
    assert Rule(text).holds(image()) is True


@pytest.mark.parametrize(
    ("text", "failing"),
    [
        ("visibility:private", "visibility:private"),
        ("visibility:public and tag:scratch and owner:x", "tag:scratch"),
        ("visibility:public and not tag:golden", "not tag:golden"),
        ("tag:a or tag:b", "(tag:a or tag:b)"),
        ("property:os_distro=Debian", "property:os_distro=Debian"),
        ("property:os_version", "property:os_version"),
        ("size:<1GiB", "size:<1GiB"),
        ("size:>1GiB", "size:>1GiB"),
        ("size:<=1GB", "size:<=1GB"),
        ("tag:my%20tags", "tag:my%20tags"),
    ],
)
def test_rule_does_not_hold(text, failing):
    rule = Rule(text)
    assert rule.holds(image()) is False
    assert rule.failing(image()) == failing


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("size:<=1GiB", None),
        ("not size:<=1GiB", None),
        ("size:<=1GiB and tag:golden", None),
        ("size:<=1GiB and tag:scratch", False),
        ("size:<=1GiB or tag:golden", True),
        ("size:<=1GiB or tag:scratch", None),
        ("tag:golden", True),
    ],
)
def test_without_a_size_only_the_size_is_open(text, holds):
    assert Rule(text).holds(image(size=None)) is holds


def test_image_without_formats_has_none():
    assert Rule("disk_format:qcow2").holds(image(disk_format=None)) is False
    assert Rule("not disk_format:qcow2").holds(image(disk_format=None)) is True


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("public", "not of the form"),
        ("visibility:public and", "not of the form"),
        ("(tag:a or tag:b", "not of the form"),
        ("tag:a tag:b", "not of the form"),
        ("@", "not of the form"),
        ("!", "not of the form"),
        ("tag:a and !", "not of the form"),
        ("tag:'my tag'", "not of the form"),
        ("visibility:publik", "none of public, community, shared, private"),
        ("tag:", "names no value"),
        ("owner: x", "not of the form"),
        ("name:cirros", "names none of visibility, owner"),
        ("role:admin", "names none of"),
        ("size:20GiB", "not of the form size:<=20GiB"),
        ("size:<=20Gb", "not of the form size:<=20GiB"),
        ("size:<=many", "not of the form size:<=20GiB"),
        ("size:<=-1", "not of the form size:<=20GiB"),
    ],
)
def test_text_that_is_no_rule_is_refused(text, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        Rule(text)


def test_conditions_are_listed():
    rule = Rule("disk_format:iso and (tag:my%20tag or size:<1TB)")
    assert rule.conditions == [("disk_format", "iso"), ("tag", "my tag"), ("size", "<1TB")]
