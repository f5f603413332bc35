# SPDX-License-Identifier: Apache-2.0
"""Medians, quartiles and ratios, and what becomes of a goal."""

import json

import pytest

from benchmarks.figures import Figure, Goal, compare, ratio, ratio_spread, spread
from benchmarks.turns import alternate


def test_spread_is_the_quartiles():
    assert spread([5, 1, 3, 2, 4]) == (2, 3, 4)


def test_one_sample_has_no_spread():
    assert spread([7.5]) == (7.5, 7.5, 7.5)


def test_ratio_is_that_of_the_medians_not_the_median_of_the_ratios():
    samples = {"ours": [1.0, 4.0, 9.0], "bare": [9.0, 2.0, 1.0]}
    assert ratio(samples, "ours", "bare") == 2.0


def test_spread_of_a_ratio_compares_what_ran_in_the_same_round():
    # Both became slower in the second round: the ratio did not change.
    samples = {"ours": [2.0, 20.0, 2.0], "bare": [1.0, 10.0, 1.0]}
    assert ratio_spread(samples, "ours", "bare") == (2.0, 2.0, 2.0)


def test_rounds_that_are_missing_are_an_error():
    with pytest.raises(ValueError):
        ratio_spread({"ours": [1.0, 2.0], "bare": [1.0]}, "ours", "bare")


@pytest.mark.parametrize(
    ("goal", "value", "is_met"),
    [
        (Goal(1.05), 1.05, True),
        (Goal(1.05), 1.06, False),
        (Goal(0.9, at_least=True), 0.9, True),
        (Goal(0.9, at_least=True), 0.89, False),
        (None, 3.0, None),
    ],
)
def test_goal(goal, value, is_met):
    assert Figure("name", "what", value, goal=goal).is_met is is_met


def test_comparison_holds_only_the_samples_of_the_two():
    samples = {"ours": [2.0, 3.0], "bare": [1.0, 2.0], "script": [5.0, 5.0]}
    figure = compare("upload", "what", samples, "ours", "bare", Goal(2))
    assert figure.samples == {"ours": [2.0, 3.0], "bare": [1.0, 2.0]}
    assert figure.value == pytest.approx(2.5 / 1.5)


def test_figure_comes_back_from_json():
    figure = compare(
        "upload",
        "what",
        {"ours": [2.0, 3.0], "bare": [1.0, 2.0]},
        "ours",
        "bare",
        Goal(0.9, at_least=True),
        cpu_seconds={"ours": {"Glance": 1.5}},
        notes=("a note",),
    )
    text = json.dumps(figure.as_json())
    assert json.loads(text)["is_met"] is True
    assert Figure.from_json(json.loads(text)) == figure


def test_contenders_take_turns_and_the_order_turns_around():
    called = []
    contenders = {name: lambda name=name: called.append(name) or name for name in "abc"}
    assert alternate(contenders, 3) == {name: [name] * 3 for name in "abc"}
    assert "".join(called) == "abccbaabc"
