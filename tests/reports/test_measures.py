"""The measures of a study: seeds together, chance and real clips beside them, a section for each number of subjects."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from refeval.reports.cells import Cell
from refeval.reports.measures import MemberMeasures, measures_table, separability_table
from refeval.statistics import share_over_seeds
from refeval.training.worlds import Measure


def assessment(right: int, *, subjects: tuple[int, ...] = (1,), asked: int = 50) -> list[dict[str, Any]]:
    """As a training writes it: the same number of right answers to every question."""
    chances = {"motion": 0.25, "identity": 0.1}
    return [
        Measure(
            name=name,
            subjects=count,
            references=references,
            right=right - count,
            asked=asked,
            chance=chance,
            real=0.98 if name == "motion" else 0.9,
        ).described()
        for count in subjects
        for references in ("own", "swapped")
        for name, chance in chances.items()
    ]


def member(name: str, *right: int, **how: Any) -> MemberMeasures:
    measures = tuple(assessment(one, **how) for one in right)
    blocks = tuple(apart(one / 10) for one in right)
    return MemberMeasures(name=name, seeds=tuple(range(len(right))), measures=measures, blocks=blocks)


def apart(ratio: float | None) -> list[dict[str, Any]]:
    """As a training writes it: after two blocks."""
    before = {"ratio": 1.5}
    return [{"block": 1, "before": before, "after": {"ratio": ratio}}, {"block": 2, "before": before, "after": before}]


def test_seeds_are_one_row_with_the_interval_that_knows_them() -> None:
    table = measures_table("loss", [member("A", 41, 46), member("C", 21)])
    assert table.headings == (
        "loss",
        "seeds",
        "own references motion",
        "own references identity",
        "swapped references motion",
        "swapped references identity",
    )
    assert [row[:2] for row in table.rows] == [("A", "0, 1"), ("C", "0"), ("chance", ""), ("real clips", "")]
    expected = share_over_seeds([40, 45], 50)
    for cell in table.rows[0][2:]:
        assert isinstance(cell, Cell)
        number = cell.number
        assert (number.value, number.spread) == (pytest.approx(85.0), pytest.approx(100 * (expected.spread or 0)))
        assert (number.low, number.high) == (pytest.approx(100 * expected.low), pytest.approx(100 * expected.high))
        assert number.best
    assert table.rows[1][2].startswith("40.0\n[") and "sd" not in table.rows[1][2]
    assert table.rows[2][2:] == ("25.0", "10.0", "25.0", "10.0")
    assert table.rows[3][2:] == ("98.0", "90.0", "98.0", "90.0"), "and never the best of its column"
    assert any("Wilson" in note and "seeds" in note for note in table.notes)


def test_every_number_of_subjects_has_a_section() -> None:
    table = measures_table("depth", [member("0", 31, subjects=(1, 2)), member("1", 36, subjects=(1, 2))])
    assert [(section.first, section.heading) for section in table.sections] == [(0, "1 subject"), (4, "2 subjects")]
    values = [row[2].split("\n")[0] for row in table.rows]
    assert values == ["60.0", "70.0", "25.0", "98.0", "58.0", "68.0", "25.0", "98.0"]


def test_seeds_that_were_asked_other_questions_have_no_mean() -> None:
    mixed = replace(member("A", 30, 30), measures=(assessment(30), assessment(30, asked=40)))
    lacking = replace(member("B", 30, 30), measures=(assessment(30), assessment(30)[1:]))
    table = measures_table("loss", [mixed, lacking])
    assert table.rows[0][2:] == ("–",) * 4
    assert table.rows[1][2] == "–" and table.rows[1][3] != "–"


def test_references_lie_apart_after_each_block_member_by_member() -> None:
    coinciding = replace(member("C", 10), blocks=(apart(None),))
    table = separability_table("loss", [member("A", 20, 40), member("B", 20), coinciding])
    assert table.headings == ("loss", "seeds", "block 1", "block 2")
    assert [row[:2] for row in table.rows] == [("A", "0, 1"), ("B", "0"), ("C", "0"), ("before", "0, 1")]
    first = table.rows[0][2]
    assert isinstance(first, Cell)
    assert (first.number.value, first.number.spread) == (pytest.approx(3.0), pytest.approx(2**0.5))
    assert first.number.best
    assert table.rows[2][2] == "–"
    assert table.rows[3][2:] == ("1.50\nsd 0.00", "1.50\nsd 0.00"), "and never the best of its column"
