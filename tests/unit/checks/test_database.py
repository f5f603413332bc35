# SPDX-License-Identifier: Apache-2.0
"""What is known of releases of MariaDB."""

import pytest

from glance_repl_mw.checks.database import _loses_updates


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("10.11.19-MariaDB-0+deb12u1", False),
        ("12.1.1-MariaDB", False),
        ("12.1.2-MariaDB", True),
        ("12.2.2-MariaDB-ubu2404", True),
        ("12.2.3-MariaDB", False),
        ("8.0.40", False),
        ("unknown", False),
    ],
)
def test_releases_of_galera_that_lose_updates(release, expected):
    assert _loses_updates(release) is expected
