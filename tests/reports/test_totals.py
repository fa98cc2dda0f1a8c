"""Totals, categories and statuses: nothing that is missing can hide."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from refeval.cases import Category, Domain
from refeval.catalogue import METRIC_BY_ID, PUBLISHED_METRICS
from refeval.protocols import ProtocolName
from refeval.published import published_rows
from refeval.records import ScoreStatus
from refeval.reports.explain import explain_case, explain_run
from refeval.reports.table import Table
from refeval.reports.totals import category_means, category_table, status_table, totals_csv, totals_table
from refeval.runs import Run
from tests.reports.planted import planted_run, planted_suite
from tests.reports.small_run import CASES, scored, small_run, small_suite, unscored

V1_1, STRICT = ProtocolName.V1_1, ProtocolName.STRICT
TOTAL, FIRST = 2, 3


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return small_run(tmp_path / "run", small_suite(None))


def cell(table: Table, protocol: ProtocolName, column: str) -> str:
    row = next(row for row in table.rows if row[1] == protocol.value)
    return row[table.columns.index(column)]


def value_of(table: Table, protocol: ProtocolName, column: str) -> float:
    return float(cell(table, protocol, column).split("\n")[0])


def test_columns_stand_in_the_published_order(run: Run) -> None:
    labels = [metric.label for metric in PUBLISHED_METRICS]
    assert totals_table([run]).columns == ("run", "protocol", "TotalScore", *labels, "scored")


def test_a_complete_run_has_totals_without_marks(run: Run) -> None:
    table = totals_table([run], published=False)
    parts = [0.9 - 0.8 * place / len(CASES) for place in range(len(CASES))]
    mean = f"{100 * sum(parts) / len(parts):.2f}"
    # One case of each category: nothing tells how far another one would be, so there is no interval.
    assert cell(table, V1_1, "Aesthetics") == f"{mean}\n6/6"
    assert cell(table, STRICT, "NaturalScore") == f"{mean}\n6/6"
    assert cell(table, V1_1, "FaceSim").endswith("\n4/4")
    assert cell(table, STRICT, "FaceSim").endswith("\n5/5")
    assert not any("†" in text for row in table.rows for text in row)
    assert cell(table, V1_1, "scored") == "38/38"
    assert table.notes == ()


def test_a_value_stands_over_its_interval(tmp_path: Path) -> None:
    planted = planted_run(tmp_path / "run", planted_suite())
    table = totals_table([planted], published=False)
    value, interval, cases = cell(table, V1_1, "Aesthetics").split("\n")
    low, high = map(float, interval.strip("[]").split(", "))
    assert low < float(value) < high
    assert cases.split("/")[0] == cases.split("/")[1]
    assert any(note.startswith("[low, high]: 95 % interval") for note in table.notes)
    bounds = totals_table([planted], published=False, allow_missing=True)
    assert "[" not in cell(bounds, STRICT, "TotalScore")


def test_deleting_a_record_marks_the_official_total_and_undoes_the_strict_one(run: Run) -> None:
    run.score_path("aesthetics", "singleface_1").unlink()
    table = totals_table([run], published=False)
    assert cell(table, V1_1, "TotalScore").endswith("†")
    assert cell(table, V1_1, "Aesthetics").endswith("\n5/6")
    assert cell(table, V1_1, "scored") == "37/38"
    assert cell(table, STRICT, "TotalScore") == "undefined"
    assert cell(table, STRICT, "Aesthetics") == "undefined\n5/6"
    assert any(note.startswith("† Not comparable") for note in table.notes)


def test_a_strict_lower_bound_says_that_it_is_one(run: Run) -> None:
    full = value_of(totals_table([run], published=False), STRICT, "TotalScore")
    run.score_path("aesthetics", "singleface_1").unlink()
    table = totals_table([run], published=False, allow_missing=True)
    assert value_of(table, STRICT, "TotalScore") < full
    assert any("lower bounds" in note for note in table.notes)


def test_a_metric_without_any_record_is_called_absent(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", small_suite(None), metrics=["motion_amplitude"])
    table = totals_table([run])
    assert cell(table, V1_1, "Aesthetics") == "absent\n0/6"
    assert cell(table, STRICT, "Aesthetics") == "absent\n0/6"
    assert cell(table, V1_1, "TotalScore").endswith("†")
    assert any("-133.33" in note for note in table.notes)


def test_zeros_that_the_official_mean_leaves_out_are_told(run: Run) -> None:
    suite = run.suite(data=run.folder)
    run.write_score(scored(suite["singleobj_1"], "nexus", 0.0))
    notes = totals_table([run], published=False).notes
    assert [note for note in notes if "leaves zeros out" in note] == [
        "squares, opens2v-v1.1: NexusScore is the mean over 3 of 4 scored cases; the official formula leaves zeros out."
    ]


def test_published_rows_are_marked_and_grouped(run: Run) -> None:
    table = totals_table([run])
    assert [(section.kind, section.heading) for section in table.sections] == [
        ("run", "runs"),
        ("published", "published, closed-source"),
        ("published", "published, open-source"),
    ]
    published = table.rows[table.sections[1].first :]
    assert len(published) == len(published_rows(Domain.OPEN))
    assert {row[-1] for row in published} == {"published"}
    assert {row[1] for row in published} == {"opens2v-v1.1"}
    assert any("RefAlign paper" in note for note in table.notes)
    assert any("6 cases" in note and "180" in note for note in table.notes)


def test_published_rows_stand_only_beside_their_protocol(run: Run) -> None:
    assert len(totals_table([run], protocols=[STRICT]).rows) == 1


@pytest.mark.parametrize("name", ["sprites", "my-suite"])
def test_published_rows_stand_only_beside_their_suites(tmp_path: Path, name: str) -> None:
    run = small_run(tmp_path / "run", small_suite(None, name=name))
    table = totals_table([run])
    assert len(table.rows) == 2
    assert any(note.startswith("Published systems are left out") for note in table.notes)


def test_the_human_domain_has_no_nexus_column_values(tmp_path: Path) -> None:
    cases = {"singleface_1": ("Man",), "singlehuman_1": ("Woman",)}
    suite = small_suite(None, cases, name="opens2v-human", domain=Domain.HUMAN)
    table = totals_table([small_run(tmp_path / "run", suite)])
    assert cell(table, STRICT, "NexusScore") == "–"
    assert len(table.rows) == 2 + len(published_rows(Domain.HUMAN))


def test_runs_of_one_model_are_told_apart(tmp_path: Path) -> None:
    suite = small_suite(None)
    runs = [small_run(tmp_path / str(seed), suite, seed=seed, rendered=[]) for seed in (1, 2)]
    names = [row[0] for row in totals_table(runs, published=False).rows]
    assert names == ["squares, seed 1", "squares, seed 1", "squares, seed 2", "squares, seed 2"]


def test_the_csv_has_every_digit_and_every_count(run: Run) -> None:
    run.score_path("gme", "singleface_1").unlink()
    official, strict = csv.DictReader(io.StringIO(totals_csv([run])))
    assert float(official["total"]) == pytest.approx(0.5, abs=0.2)
    assert official["complete"] == "False"
    assert (official["gme_scored"], official["gme_applicable"]) == ("5", "6")
    assert strict["total"] == "" and strict["gme"] == ""


def test_category_means_are_those_of_their_cases(run: Run) -> None:
    means = category_means(run, STRICT)
    assert list(means) == [category for category in Category if f"{category}_1" in CASES]
    assert means[Category.SINGLEFACE]["aesthetics"].value == pytest.approx(90.0)
    assert means[Category.SINGLEOBJ]["facesim"].applicable == 0
    assert means[Category.MULTIFACE]["facesim"].scored == 1
    assert category_means(run, V1_1)[Category.MULTIFACE]["facesim"].applicable == 0


def test_the_category_table_shows_coverage(run: Run) -> None:
    run.write_score(unscored("singleface_1", "gme", ScoreStatus.FAILED, "planted"))
    table = category_table(run, STRICT)
    row = dict(zip(table.columns, table.rows[0], strict=True))
    assert (row["category"], row["Aesthetics"], row["GmeScore"]) == ("singleface", "90.00\n1/1", "–\n0/1")
    assert any("multihuman, multiobject" in note for note in table.notes)


def test_the_status_table_adds_up_to_the_suite(run: Run) -> None:
    run.write_score(unscored("singleface_1", "gme", ScoreStatus.UNPARSEABLE, "planted"))
    run.score_path("natural", "singleface_1").unlink()
    table = status_table(run)
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    for row in rows.values():
        assert sum(int(row[status.value]) for status in ScoreStatus) == int(row["cases"]) == 6
    assert rows["GmeScore"]["unparseable"] == rows["NaturalScore"]["missing"] == "1"
    assert rows["FaceSim"]["not_applicable"] == "1"
    assert table.notes[0] == "Clips: 6 rendered, 0 missing, 0 failed of 6."


def test_explained_contributions_add_up_to_the_total(run: Run) -> None:
    for table in explain_run(run):
        column = table.columns.index("points")
        *parts, total = [float(row[column]) for row in table.rows]
        assert sum(parts) == pytest.approx(total, abs=0.005 * len(parts))


def test_an_undefined_total_is_explained(run: Run) -> None:
    run.score_path("gme", "singleface_1").unlink()
    strict = explain_run(run, protocols=[STRICT])[0]
    assert strict.rows[-1][strict.columns.index("points")] == "–"
    assert any("GmeScore: 1 of 6 cases missing" in note for note in strict.notes)


def test_the_shares_of_all_cases_add_up_to_the_total(run: Run) -> None:
    shares = []
    for case_id in CASES:
        scores = explain_case(run, case_id)[1]
        assert len(scores.rows) == len(METRIC_BY_ID) + 1
        shares.append(float(scores.rows[-1][scores.columns.index(STRICT.value)]))
    total = value_of(totals_table([run], published=False), STRICT, "TotalScore")
    assert sum(shares) == pytest.approx(total, abs=0.01)


def test_a_case_is_explained_with_prompt_references_and_clip(run: Run) -> None:
    rows = {field: value for field, value in explain_case(run, "humanobj_1")[0].rows}
    assert rows["prompt"].startswith("A Woman and a bag")
    assert rows["reference 3"] == "beach (background), Images/environment/humanobj_1_3.png"
    assert rows["clip size"] == "64x48, 6 frames at 8 fps"
