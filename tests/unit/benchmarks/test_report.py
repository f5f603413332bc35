# SPDX-License-Identifier: Apache-2.0
"""The table of the documents, and the picture."""

import dataclasses

import pytest
from docutils.core import publish_doctree
from docutils.nodes import image, row

from benchmarks import picture, report
from benchmarks.accounting import BUSY, WAITED
from benchmarks.figures import Figure, Goal, compare
from benchmarks.scenarios.race import BARE, LINE_OURS, LINE_SCRIPT, OURS, SCRIPT
from benchmarks.settings import QUICK, Settings
from benchmarks.suite import EXTRA, NAMES, SCENARIOS

ABOUT = {
    "machine": {
        "processors": 2,
        "processor": "Some",
        "memory_gib": 24,
        "python": "3.11.7",
        "glance": "33.0.0",
        "nginx": "1.22.1",
        "curl": "7.88.1",
    },
    "settings": dataclasses.asdict(Settings()),
}
UPLOADS = {BARE: [2.0, 2.0, 2.2], OURS: [2.1, 2.1, 2.4]}
FIGURES = [
    compare(
        "upload",
        "upload, with / without",
        UPLOADS,
        OURS,
        BARE,
        Goal(1.05),
        cpu_seconds={
            OURS: {"Glance": 1.5, "writer": 0.5, BUSY: 1.9, WAITED: 0.75},
            BARE: {"Glance": 1.25, BUSY: 1.1, WAITED: 0.5},
        },
    ),
    compare("against-script", "ours / script", {OURS: [3.0], SCRIPT: [4.0]}, OURS, SCRIPT),
    Figure("reads", "bytes read", 0, "bytes", Goal(0), notes=("from the log",)),
    Figure("small", "rate", 0.85, goal=Goal(0.9, at_least=True)),
]


@pytest.fixture
def text():
    return report.text(FIGURES, ABOUT, "doc/source/benchmarks/benchmark.svg")


def test_section_is_valid_and_has_every_figure(text):
    document = publish_doctree(text, settings_overrides={"halt_level": 2})
    rows = [[cell.astext() for cell in line.children] for line in document.findall(row)]
    assert rows[1:5] == [
        ["upload, with / without", "1.05 (1.05 to 1.07)", "at most 1.05", "yes"],
        ["ours / script", "0.75 (0.75 to 0.75)", "", ""],
        ["bytes read", "0 bytes", "at most 0", "yes"],
        ["rate", "0.85", "at least 0.9", "no"],
    ]
    (shown,) = document.findall(image)
    assert shown["uri"] == "doc/source/benchmarks/benchmark.svg"


def test_section_says_where_the_processors_went(text):
    document = publish_doctree(text)
    rows = [[cell.astext() for cell in line.children] for line in document.findall(row)]
    assert rows[-2:] == [
        [f"upload: {OURS}", "1.50", "0.50", "1.90", "0.75"],
        [f"upload: {BARE}", "1.25", "", "1.10", "0.50"],
    ]
    assert "reads: from the log" in text


def test_note_of_several_figures_of_one_name_is_told_once():
    text = report.text([*FIGURES, FIGURES[2]], ABOUT)
    assert text.count("* reads: from the log") == 1


def test_missed_goal_is_explained_by_the_processors():
    missed = dataclasses.replace(FIGURES[0], goal=Goal(1.01))
    assert report.bound(missed) == (
        f"upload: {OURS} takes 0.75 CPU seconds more than {BARE} "
        "(Glance +0.25 s, writer +0.50 s); 1.90 processors were busy, "
        "and Glance waited for one for 0.75 instead of 0.50 s"
    )
    assert report.bound(missed) in report.text([missed], ABOUT)
    assert report.bound(FIGURES[0]) == ""


def test_small_sizes_tell_nothing():
    quick = {**ABOUT, "settings": dataclasses.asdict(QUICK)}
    warning = "So small sizes show that all works, and no more."
    assert warning in report.text(FIGURES, quick)
    assert warning not in report.text(FIGURES, ABOUT)


def test_run_comes_back_from_json(tmp_path):
    path = tmp_path / "benchmark.json"
    path.write_text(report.as_json(FIGURES, ABOUT))
    figures, about = report.read_json(path)
    assert report.text(figures, about) == report.text(FIGURES, ABOUT)


def test_bars_are_multiples_of_a_bare_upload():
    bars = picture.bars(FIGURES)
    assert [round(bar.median, 3) for bar in bars] == [1.0, 1.05, 1.5, 2.0]
    assert [bar.is_ours for bar in bars] == [False, True, True, False]
    assert (bars[0].low, bars[0].high) == pytest.approx((1.0, 1.05))


def test_no_bars_without_a_bare_upload():
    assert picture.bars(FIGURES[1:]) == []


def test_picture_names_each_bar_and_is_the_same_each_time(tmp_path):
    bars = picture.bars(FIGURES)
    first, second = tmp_path / "first.svg", tmp_path / "second.svg"
    picture.draw(bars, first)
    picture.draw(bars, second)
    drawn = first.read_text()
    assert drawn == second.read_text()
    for bar in bars:
        assert bar.label in drawn
        assert f">{bar.median:.2f}<" in drawn


def test_every_figure_has_one_scenario():
    names = [name for scenario in SCENARIOS for name in scenario.names]
    assert len(names) == len(set(names))
    assert set(names) == {*NAMES, *EXTRA}


def test_picture_leaves_out_who_ran_beside_others():
    on_a_line = {LINE_OURS: [9.0] * 3, LINE_SCRIPT: [12.0] * 3}
    beside_ours = {OURS: [2.4] * 3, SCRIPT: [4.0] * 3}
    found = picture.bars(
        [
            compare("upload", "", UPLOADS, OURS, BARE),
            compare("against-script-line", "", on_a_line, LINE_OURS, LINE_SCRIPT),
            compare("against-script", "", beside_ours, OURS, SCRIPT),
        ]
    )
    assert [round(bar.median, 3) for bar in found] == [1.0, 1.05, 1.2, 2.0]
