# SPDX-License-Identifier: Apache-2.0
"""Which hash proves the bytes of an image, for all that Glance may say."""

import hashlib
import io

import pytest

from glance_repl_mw.content import ImageDigest, is_known
from glance_repl_mw.model import Image

BODY = b"the bytes of an image"
MD5 = hashlib.md5(BODY).hexdigest()


def image(**changes):
    record = {
        "image_id": "7f2f2b5e-0c7f-4f3b-9d4c-000000000001",
        "status": "active",
        "size": len(BODY),
        "checksum": MD5,
        "os_hash_algo": "sha512",
        "os_hash_value": hashlib.sha512(BODY).hexdigest(),
        "locations": (),
    }
    return Image(**{**record, **changes})


def hashed(digest, body):
    hasher = digest.hasher()
    hasher.update(body)
    return hasher.hexdigest()


@pytest.mark.parametrize("algorithm", ["sha512", "sha256", "sha3_384", "md5", "blake2b"])
def test_os_hash_value_proves_the_bytes(algorithm):
    value = hashlib.new(algorithm, BODY).hexdigest()
    digest = ImageDigest.of(image(os_hash_algo=algorithm, os_hash_value=value, checksum=None))
    assert digest.algorithm == algorithm
    assert digest.matches(hashed(digest, BODY))
    assert not digest.matches(hashed(digest, BODY[:-1]))
    assert not digest.is_weak


@pytest.mark.parametrize(
    "change",
    [
        {"os_hash_algo": None, "os_hash_value": None},
        {"os_hash_value": None},
        {"os_hash_value": ""},
        {"os_hash_algo": "kangaroo12", "os_hash_value": "00" * 32},
        # A digest of no fixed length, which hexdigest() refuses to give.
        {"os_hash_algo": "shake_128", "os_hash_value": "00" * 32},
    ],
)
def test_checksum_does_where_the_other_hash_cannot_be_computed(change):
    digest = ImageDigest.of(image(**change))
    assert (digest.algorithm, digest.value) == ("md5", MD5)
    assert digest.matches(hashed(digest, BODY))
    assert not digest.matches(hashed(digest, BODY + b"x"))


def test_without_any_hash_every_digest_matches_and_is_called_weak():
    digest = ImageDigest.of(image(os_hash_algo="kangaroo12", checksum=None))
    assert digest.is_weak
    assert digest.matches(hashed(digest, b"anything"))


def test_capitals_are_the_same_digest():
    digest = ImageDigest.of(image(os_hash_value=hashlib.sha512(BODY).hexdigest().upper()))
    assert digest.matches(hashed(digest, BODY))


def test_digest_of_a_file():
    digest = ImageDigest.of(image())
    assert digest.matches(digest.of_file(io.BytesIO(BODY)))


@pytest.mark.parametrize("name", ["", "kangaroo12", "shake_256", "sha 512", "\x00"])
def test_names_that_cannot_be_computed(name):
    assert not is_known(name)
