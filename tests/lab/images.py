# SPDX-License-Identifier: Apache-2.0
"""What tests upload: random bytes, of no format that Glance knows."""

import os
from collections.abc import Callable

# Where the two bytes stand by which Glance takes an image for a disk with a boot record.
_BOOT_SIGNATURE_AT = 510


def image_bytes(size: int, random_bytes: Callable[[int], bytes] = os.urandom) -> bytes:
    """So many random bytes that are no disk, not even by chance.

    One in 65,536 has the signature of a boot record; Glance then looks for partitions and
    refuses the upload.
    """
    data = random_bytes(size)
    if size <= _BOOT_SIGNATURE_AT:
        return data
    return data[:_BOOT_SIGNATURE_AT] + b"\0" + data[_BOOT_SIGNATURE_AT + 1 :]
