# SPDX-License-Identifier: Apache-2.0
"""Locations whose signature is not what it should be are replaced, and no others."""

import pytest

from glance_repl_mw.model import ReplicaStatus
from glance_repl_mw.reconciler.look import Look
from tests.unit.reconciler.target_lab import PRIMARY, Lab

GOOD = "?md5=good&expires=2"
LASTS_TOO = "?md5=good&expires=3"
STALE = "?md5=stale&expires=1"
STALER = "?md5=staler&expires=0"


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path)
    lab.replaced = []
    lab.images.replace_locations = lambda *arguments: lab.replaced.append(arguments)
    lab.target.location = sign
    lab.health.succeeded()
    yield lab
    lab.close()


def sign(url):
    return url if "md5=good" in url else f"{url.partition('?')[0]}{GOOD}"


def look(lab, *signatures, **changes):
    """Look at an image whose replica is a location with these signatures; returns its URL."""
    image_id = lab.add()
    url = lab.row(image_id).location_url
    given = tuple(f"{url}{signature}" for signature in signatures)
    lab.images.change(image_id, given_locations=(PRIMARY, *given), **changes)
    rows = lab.survey.of_images([image_id])[image_id]
    lab.look_again = Look(lab.tools).at(lab.image(image_id), rows, set(), set(), now=True)
    assert [each for each, _ in lab.replaced] in ([], [image_id])
    return url


@pytest.mark.parametrize(
    ("given", "replaced"),
    [
        ([GOOD], {}),
        ([STALE], {STALE: GOOD}),
        ([""], {"": GOOD}),
        ([STALE, STALER], {STALE: GOOD, STALER: GOOD}),
        ([STALE, GOOD], {STALE: GOOD}),
        ([LASTS_TOO, GOOD], {GOOD: LASTS_TOO}),
        ([GOOD, STALE, ""], {STALE: GOOD, "": GOOD}),
    ],
)
def test_one_good_signature_is_there_in_the_end(lab, given, replaced):
    url = look(lab, *given)
    expected = {f"{url}{old}": f"{url}{new}" for old, new in replaced.items()}
    assert [each for _, each in lab.replaced] == ([expected] if expected else [])


def test_image_that_is_not_active_is_left_alone(lab):
    look(lab, STALE, status="deactivated")
    assert lab.replaced == []


@pytest.mark.parametrize(("failures", "soon"), [(1, True), (3, False)])
@pytest.mark.parametrize("signature", [STALE, GOOD])
def test_target_that_is_not_known_to_be_up_is_left_for_later(lab, failures, soon, signature):
    for _ in range(failures):
        lab.health.failed(OSError())
    look(lab, signature)
    assert lab.replaced == []
    assert lab.look_again == (soon and signature == STALE)


def test_location_of_a_replica_that_is_not_active_is_left_to_others(lab):
    image_id = lab.add()
    url = lab.row(image_id).location_url
    lab.survey.change(lab.row(image_id), ReplicaStatus.DELETING)
    lab.images.change(image_id, given_locations=(PRIMARY, f"{url}{STALE}"))
    rows = lab.survey.of_images([image_id])[image_id]
    Look(lab.tools).at(lab.image(image_id), rows, set(), set(), now=True)
    assert lab.replaced == []
