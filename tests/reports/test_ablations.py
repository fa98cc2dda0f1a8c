"""Ablations: which runs belong together, means over seeds, published values beside them."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from refeval.errors import BadInput
from refeval.protocols import ProtocolName
from refeval.reports.ablations import (
    Study,
    ablation_members,
    ablation_of,
    ablation_table,
    compared,
    depth_of,
    published_members,
)
from refeval.reports.cells import Cell, Number
from refeval.reports.paper import paper_tables
from refeval.statistics.repeats import estimate_seeds
from tests.reports.planted import FEW, member_run, planted_run, planted_suite, readings


def test_runs_of_a_member_are_its_seeds_in_order(tmp_path: Path) -> None:
    runs = [member_run(tmp_path, "loss", member, seed) for member, seed in (("B", 3), ("A", 1), ("B", 2))]
    other = [member_run(tmp_path, "depth", "9"), planted_run(tmp_path / "plain", planted_suite())]
    members = ablation_members(readings(*runs, *other), Study.LOSS)
    assert [(member.name, member.seeds) for member in members] == [("A", "1"), ("B", "2, 3")]
    assert ablation_members(readings(*runs, *other), Study.ENCODER) == ()


def test_several_seeds_give_mean_spread_interval_and_summed_counts(tmp_path: Path) -> None:
    read = readings(*(member_run(tmp_path, "loss", "A", seed, level) for seed, level in ((1, 0.4), (2, 0.5), (3, 0.7))))
    [member] = ablation_members(read, Study.LOSS)
    totals = [100 * total for run in read if (total := run.view.total(ProtocolName.V1_1).total) is not None]
    number = member.numbers["total"]
    assert number.value == pytest.approx(statistics.fmean(totals))
    assert number.spread == pytest.approx(statistics.stdev(totals))
    estimates = estimate_seeds([run.scores for run in read], ProtocolName.V1_1, resampling=FEW)
    low, high = estimates[-1].low, estimates[-1].high
    assert low is not None and high is not None
    assert (number.low, number.high) == (100 * low, 100 * high)
    assert (member.numbers["gme"].scored, member.numbers["gme"].applicable) == (24, 24)
    assert "sd " in Cell(number)


def test_one_seed_has_no_spread(tmp_path: Path) -> None:
    [member] = ablation_members(readings(member_run(tmp_path, "loss", "A")), Study.LOSS)
    assert member.numbers["total"].spread is None
    assert member.numbers["total"].low is not None


def test_what_is_wrong_with_one_seed_is_wrong_with_the_mean(tmp_path: Path) -> None:
    good, bad = (member_run(tmp_path, "loss", "A", seed) for seed in (1, 2))
    bad.score_path("gme", "singleobj_1").unlink()
    [member] = ablation_members(readings(good, bad), Study.LOSS)
    total, gme = member.numbers["total"], member.numbers["gme"]
    assert (total.mark, total.comparable, total.low) == ("†", False, None)
    assert (gme.scored, gme.applicable, gme.comparable, gme.low) == (15, 16, False, None)
    assert member.numbers["facesim"].comparable


def test_depths_are_in_order_of_their_numbers(tmp_path: Path) -> None:
    runs = [member_run(tmp_path, "depth", member) for member in ("11", "9", "K=1", "none")]
    members = ablation_members(readings(*runs), Study.DEPTH)
    assert [(member.name, member.depth) for member in members] == [("K=1", 1), ("9", 9), ("11", 11), ("none", None)]
    assert depth_of("9 of 30") is None


def test_names_with_numbers_are_no_depths(tmp_path: Path) -> None:
    runs = [member_run(tmp_path, "encoder", member) for member in ("siglip2", "dinov3-b")]
    assert [m.name for m in ablation_members(readings(*runs), Study.ENCODER)] == ["dinov3-b", "siglip2"]


def test_the_table_has_the_published_values_beside_the_runs(tmp_path: Path) -> None:
    runs = [member_run(tmp_path, "loss", member, level=level) for member, level in (("A", 0.6), ("B", 0.5))]
    table = ablation_table(readings(*runs), Study.LOSS)
    assert table is not None
    assert [(section.first, section.kind) for section in table.sections] == [(0, "run"), (2, "published")]
    rows = {(row[0], row[1]): [cell.number for cell in row if isinstance(cell, Cell)] for row in table.rows}
    assert [number.value for number in rows["A", "published"]] == [55.73, None, None, None, 53.15, None, 46.23, 62.96]
    assert [number.value for number in rows["D", "published"]] == [52.15, None, None, None, 35.11, None, 45.78, 66.06]
    assert all(number.best for number in rows["A", "0"])
    assert [number.best for number in rows["C", "published"]] == [False] * 4 + [True] + [False] * 3
    assert any("Table 2" in note and "1800" in note for note in table.notes)


def test_nothing_is_published_of_depths_and_encoders() -> None:
    assert [len(published_members(study)) for study in Study] == [4, 0, 0]


def test_a_run_without_an_ablation_has_none(tmp_path: Path) -> None:
    read = readings(planted_run(tmp_path / "run", planted_suite(), settings={"steps": 4}))
    assert ablation_of(read[0]) is None
    assert all(ablation_table(read, study) is None for study in Study)


@pytest.mark.parametrize(
    "content", [{"study": "colour", "member": "A"}, {"study": "loss"}, {"study": "loss", "member": "A", "more": 1}, "A"]
)
def test_settings_of_another_form_are_refused(tmp_path: Path, content: object) -> None:
    read = readings(planted_run(tmp_path / "run", planted_suite(), settings={"ablation": content}))
    with pytest.raises(BadInput, match="squares do not say") as caught:
        ablation_of(read[0])
    assert caught.value.cure and any("ablation" in label for label, _ in caught.value.details)


def test_members_stand_in_tables_of_their_own_unless_there_is_nothing_else(tmp_path: Path) -> None:
    member, plain = member_run(tmp_path, "loss", "A"), planted_run(tmp_path / "plain", planted_suite(), model="plain")
    both, alone = readings(member, plain), readings(member)
    assert compared(both) == [both[1]]
    assert compared(alone) == [alone[0]]
    tables = dict(paper_tables(both))
    assert "ablation-loss" in tables
    assert [row[0] for row in tables["main"].rows if row[2] == "run"] == ["plain"]


def test_the_number_of_a_member_is_as_its_runs_where_they_agree(tmp_path: Path) -> None:
    read = readings(*(member_run(tmp_path, "loss", "A", seed) for seed in (1, 2)))
    [member] = ablation_members(read, Study.LOSS)
    number: Number = member.numbers["natural"]
    assert number.spread == 0
    assert number.value == pytest.approx(100 * 0.57)
