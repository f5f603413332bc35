# SPDX-License-Identifier: Apache-2.0
"""Names of objects: built, parsed, and never used twice."""

import pytest

from glance_repl_mw.replicas.name import ObjectName, upload_of

IMAGE = "7f2f2b5e-0c7f-4f3b-9d4c-000000000001"
UPLOAD = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize("target", ["site-a", "a", "A.b_c-9", "1.2", f"x.{UPLOAD}.7", None])
def test_name_is_parsed_as_it_was_built(target):
    name = ObjectName(IMAGE, target, UPLOAD, 12)
    assert ObjectName.parse(str(name)) == name


def test_name_begins_with_the_image_and_carries_the_target():
    name = str(ObjectName.first(IMAGE, "site-a", UPLOAD, 1764460000.25))
    assert name == f"{IMAGE}.site-a.{UPLOAD}.1764460000250"


def test_attempts_of_a_row_and_of_one_that_is_made_again_differ():
    first = ObjectName.first(IMAGE, "site-a", UPLOAD, 1000.0)
    again = ObjectName.first(IMAGE, "site-a", UPLOAD, 1060.0)
    assert len({first, first.next(), first.next().next(), again}) == 4


@pytest.mark.parametrize(
    "name",
    [
        "",
        "index.html",
        IMAGE,
        f"{IMAGE}.{UPLOAD}",
        f"{IMAGE}.{UPLOAD}.1.partial",
        f"{IMAGE}.{UPLOAD[1:]}.1",
        f"{IMAGE}..{UPLOAD}.1",
        f"{IMAGE}.-x.{UPLOAD}.1",
        f"{IMAGE}.site-a.{UPLOAD}.{'9' * 5000}",
        f"{IMAGE}.site-a.{UPLOAD}.1\n",
        f"x{IMAGE}.site-a.{UPLOAD}.1",
    ],
)
def test_other_names_are_not_ours(name):
    assert ObjectName.parse(name) is None


def test_name_belongs_to_its_target_and_one_of_an_earlier_release_to_any():
    assert upload_of(IMAGE, "site-a", f"{IMAGE}.site-a.{UPLOAD}.1") == UPLOAD
    assert upload_of(IMAGE, "site-b", f"{IMAGE}.site-a.{UPLOAD}.1") is None
    assert upload_of(IMAGE, "site-b", f"{IMAGE}.{UPLOAD}.1") == UPLOAD
    assert upload_of(IMAGE[:-1] + "2", "site-a", f"{IMAGE}.site-a.{UPLOAD}.1") is None
    assert upload_of(IMAGE, "site-a", None) is None
