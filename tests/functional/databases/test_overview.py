# SPDX-License-Identifier: Apache-2.0
"""The unit tests of the same name, on servers."""

from tests.unit.db.test_overview import *  # noqa: F403

# Asks SQLite for its plans.
del test_every_select_goes_by_an_index  # noqa: F821
