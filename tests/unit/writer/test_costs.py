# SPDX-License-Identifier: Apache-2.0
"""What one upload costs the writer, counted: statements, and bytes that are hashed."""

import hashlib
from collections import Counter

import pytest
import sqlalchemy as sa

from glance_repl_mw.writer import hasher

BODY = bytes(range(256)) * 1000
# With two targets: one SELECT before and one after the rows are made, one transaction for all new
# locations, and two for each target.
STATEMENTS = {"SELECT": 2, "INSERT": 2, "UPDATE": 5}


@pytest.fixture
def statements(store):
    """The statements sent to the database so far, by their first word."""
    counted = Counter()
    engine = store._database.writer.get_engine()

    @sa.event.listens_for(engine, "before_cursor_execute")
    def count(_connection, _cursor, statement, *_others):
        counted[statement.split()[0]] += 1

    return counted


@pytest.fixture
def hashed(monkeypatch):
    """How many bytes each hash was given."""
    hashes = []

    class Counting:
        def __init__(self, *arguments, **options):
            self._hash = hashlib.new(*arguments, **options)
            self._number = len(hashes)
            hashes.append(0)

        def update(self, data):
            hashes[self._number] += len(data)
            self._hash.update(data)

        def hexdigest(self):
            return self._hash.hexdigest()

    class Module:
        new = Counting

    monkeypatch.setattr(hasher, "hashlib", Module)
    return hashes


def test_upload_costs_few_statements(lab, statements):
    lab.accepted(BODY)
    lab.take_in_hand()
    lab.until_done()
    statements.pop("BEGIN", None)
    assert set(statements) <= set(STATEMENTS)
    assert all(statements[word] <= most for word, most in STATEMENTS.items()), statements


def test_upload_is_hashed_once_whatever_the_number_of_targets(lab, hashed):
    lab.accepted(BODY)
    lab.take_in_hand()
    lab.until_done()
    assert len(lab.crew.targets) > 1
    assert hashed == [len(BODY)]
