# SPDX-License-Identifier: Apache-2.0
"""What operators ask for targets, and which targets were forgotten."""

from glance_repl_mw.db.departed import departed
from glance_repl_mw.db.survey import ReplicaSurvey
from glance_repl_mw.db.wishes import TargetWishes
from glance_repl_mw.model import Priority, ReplicaStatus, Wish


def test_latest_wish_counts_until_it_is_taken_back(database):
    wishes = TargetWishes(database)
    wishes.ask("a", Wish.DRAIN)
    wishes.ask("b", Wish.DRAIN)
    wishes.ask("a", Wish.REMOVE)
    assert wishes.all() == {"a": Wish.REMOVE, "b": Wish.DRAIN}
    for _ in range(2):
        wishes.take_back("a")
    assert TargetWishes(database).all() == {"b": Wish.DRAIN}


def test_departed_targets_are_those_with_replicas_that_count(database):
    survey = ReplicaSurvey(database)
    survey.plan("one", ["a", "gone", "closed"], Priority.REPAIR, 1)
    survey.plan("two", ["gone", "closed"], Priority.REPAIR, 1)
    for rows in survey.of_images(["one", "two"]).values():
        for row in rows:
            if row.target == "closed":
                survey.change(row, ReplicaStatus.DELETED)
    assert departed(survey, ["a"]) == {"gone": 2}
    assert departed(survey, ["a", "gone"]) == {}
