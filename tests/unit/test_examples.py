# SPDX-License-Identifier: Apache-2.0
"""What the README shows is what the tests run."""

import re
import textwrap
from pathlib import Path

TOP = Path(__file__).parents[2]


def test_readme_shows_the_example():
    readme = (TOP / "README.rst").read_text()
    shown = re.search(r"boot_at_site.py``\)::\n\n((?:    .*\n)+)", readme)[1]
    assert textwrap.dedent(shown) in (TOP / "doc/examples/boot_at_site.py").read_text()
