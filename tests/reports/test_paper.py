"""The tables of a paper: groups, runs beside published rows, intervals, counts, files."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from refeval.cases import Domain
from refeval.catalogue import METRIC_BY_ID
from refeval.cli import app
from refeval.protocols import ProtocolName
from refeval.published import published_rows
from refeval.reports.breakdowns import categories_table, domains_table, protocols_table, quantity_number
from refeval.reports.cells import Cell, Number
from refeval.reports.main_table import main_table, model_size
from refeval.reports.paper import paper_tables, write_paper
from refeval.reports.table import Table
from refeval.reports.totals import category_means
from refeval.runs import Run
from refeval.statistics.comparison import estimate_run
from refeval.suites import SUITES
from tests.reports.planted import CASES, FEW, planted_run, planted_suite, readings
from tests.reports.small_run import small_suite

V1_1, STRICT = ProtocolName.V1_1, ProtocolName.STRICT


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return planted_run(tmp_path / "run", planted_suite(), model="refalign-1.3b")


def section_of(table: Table, row: int) -> str:
    return [section.heading for section in table.sections if section.first <= row][-1]


def row_of(table: Table, name: str, *, column: int = 0) -> tuple[str, ...]:
    [row] = [row for row in table.rows if row[column] == name]
    return row


def numbers(row: tuple[str, ...]) -> list[Number]:
    return [cell.number for cell in row if isinstance(cell, Cell)]


def test_published_rows_stand_in_their_groups_as_printed(run: Run) -> None:
    table = main_table(readings(run))
    systems = {system.model: system for system in published_rows(Domain.OPEN)}
    published = [(i, row) for i, row in enumerate(table.rows) if row[2] == "published"]
    assert len(published) == len(systems)
    for i, row in published:
        system = systems[row[0].split("\u00a0")[0]]
        assert section_of(table, i) == system.group
        assert [number.value for number in numbers(row)] == [system.total, *(system.columns[m] for m in METRIC_BY_ID)]
        assert (row[1] == system.size) or (not system.size and row[1] == "–")


def test_the_mark_of_a_published_row_is_that_of_its_source(run: Run) -> None:
    table = main_table(readings(run))
    origins = {note[0]: note for note in table.notes if note[0] in "¹²³⁴⁵⁶⁷⁸⁹"}
    assert len(origins) >= 3
    for row in table.rows:
        if row[2] == "published":
            model, mark = row[0].split("\u00a0")
            [system] = [system for system in published_rows(Domain.OPEN) if system.model == model]
            assert origins[mark].startswith(f"{mark} {system.source}")
            assert all(text in origins[mark] for text in (*system.also_in, system.evaluated_by, system.note))


def test_a_run_of_a_published_model_stands_below_it_and_others_apart(run: Run, tmp_path: Path) -> None:
    other = planted_run(tmp_path / "other", planted_suite(), model="mine-14b")
    table = main_table(readings(run, other))
    names = [row[0].split("\u00a0")[0] for row in table.rows]
    place = names.index("refalign-1.3b")
    assert names[place - 1] == "RefAlign-1.3B"
    assert section_of(table, place) == "open-source"
    assert section_of(table, names.index("mine-14b")) == "runs of other systems"
    assert row_of(table, "mine-14b")[1:3] == ("14B", "run")


def test_the_numbers_of_a_run_are_its_totals_with_intervals_and_counts(run: Run) -> None:
    [reading] = readings(run)
    estimates = {e.of: e for e in estimate_run(reading.scores, V1_1, resampling=FEW)}
    shown = dict(zip(("total", *METRIC_BY_ID), numbers(row_of(main_table([reading]), "refalign-1.3b")), strict=True))
    total = reading.view.total(V1_1)
    assert total.total is not None
    assert shown["total"].value == pytest.approx(100 * total.total, abs=1e-9)
    for of, number in shown.items():
        low, high = estimates[of].low, estimates[of].high
        assert low is not None and high is not None
        assert (number.low, number.high) == (100 * low, 100 * high)
    counts = {metric.metric: (metric.scored, metric.applicable) for metric in total.metrics}
    assert {of: (n.scored, n.applicable) for of, n in shown.items() if of != "total"} == counts
    assert (shown["total"].scored, shown["total"].applicable) == tuple(map(sum, zip(*counts.values(), strict=True)))


def test_the_note_says_how_intervals_were_made(run: Run) -> None:
    [note] = [note for note in main_table(readings(run)).notes if note.startswith("[low, high]")]
    assert all(text in note for text in ("95 %", "BCa", "300 resamples", "seed 0"))


def test_a_run_over_part_of_a_suite_is_never_the_best(tmp_path: Path) -> None:
    best = planted_run(tmp_path / "run", planted_suite(), model="VINO", level=lambda _: 1.0)
    table = main_table(readings(best))
    assert not any(number.best for number in numbers(row_of(table, "VINO")))
    assert sum(number.best for row in table.rows for number in numbers(row)) >= 16


def test_a_run_over_the_whole_suite_can_be_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best = planted_run(tmp_path / "run", planted_suite(), model="VINO", level=lambda _: 1.0)
    info = SUITES["opens2v-open"]
    monkeypatch.setitem(SUITES, "opens2v-open", type(info)(**{**vars(info), "cases": len(CASES)}))
    table = main_table(readings(best))
    assert all(number.best for number in numbers(row_of(table, "VINO")))
    rivals = [row for i, row in enumerate(table.rows) if section_of(table, i) == "open-source" and row[2] != "run"]
    assert not any(number.best for row in rivals for number in numbers(row))


def test_a_lost_case_takes_interval_and_bold_and_leaves_the_count(tmp_path: Path) -> None:
    lost = planted_run(tmp_path / "lost", planted_suite("sprites"), model="a", without=[("gme", "singleobj_1")])
    whole = planted_run(tmp_path / "whole", planted_suite("sprites"), model="b", level=lambda _: 0.1)
    table = main_table(readings(lost, whole))
    total, *metrics = numbers(row_of(table, "a"))
    gme = metrics[list(METRIC_BY_ID).index("gme")]
    assert (total.mark, total.low, total.best) == ("†", None, False)
    assert (gme.low, gme.scored, gme.applicable, gme.best) == (None, 7, 8, False)
    assert metrics[0].low is not None


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("refalign-1.3b", "1.3B"),
        ("VACE-P1.3B", "1.3B"),
        ("wan:14B", "14B"),
        ("kling1.6", ""),
        ("abc", ""),
        ("x4bit", ""),
    ],
)
def test_sizes_are_read_from_names(name: str, size: str) -> None:
    assert model_size(name) == size


@pytest.mark.parametrize("protocol", [V1_1, STRICT])
def test_category_intervals_are_around_the_category_means(run: Run, protocol: ProtocolName) -> None:
    [reading] = readings(run)
    table = categories_table([reading], protocol)
    means = category_means(reading.view, protocol)
    assert [section.heading for section in table.sections] == [f"{category}, 2 cases" for category in means]
    for row, (category, found) in zip(table.rows, means.items(), strict=True):
        for number, (metric, mean) in zip(numbers(row), found.items(), strict=True):
            assert number.value == mean.value
            assert (number.scored or 0, number.applicable or 0) == (mean.scored, mean.applicable)
            estimate = reading.category_estimates(protocol, category).get(metric)
            if number.low is not None and number.high is not None and mean.value is not None:
                assert estimate is not None and estimate.value == pytest.approx(mean.value / 100)
                assert number.low <= mean.value <= number.high
    assert any(number.low is not None for row in table.rows for number in numbers(row))


def test_a_category_that_lacks_a_case_has_no_interval_and_is_not_the_best(tmp_path: Path) -> None:
    lost = planted_run(tmp_path / "a", planted_suite(), model="a", without=[("gme", "singleobj_1")])
    whole = planted_run(tmp_path / "b", planted_suite(), model="b", level=lambda place: 0.01 * place)
    table = categories_table(readings(lost, whole), V1_1)
    place = [section.heading.split(",")[0] for section in table.sections].index("singleobj")
    gme = 1 + list(METRIC_BY_ID).index("gme")
    first, second = (table.rows[2 * place + i][gme] for i in (0, 1))
    assert isinstance(first, Cell) and isinstance(second, Cell)
    assert (first.number.low, first.number.best, first.number.scored) == (None, False, 1)
    assert second.number.low is not None


def test_one_case_has_no_interval(tmp_path: Path) -> None:
    suite = small_suite(None, {"singleface_1": ("Man",), "singleobj_1": ("dog",), "singleobj_2": ("cup",)})
    [reading] = readings(planted_run(tmp_path / "run", suite))
    face, things = map(numbers, categories_table([reading], V1_1).rows)
    assert {number.low for number in face} == {None}
    assert things[0].low is not None
    assert quantity_number(reading, V1_1, "facesim").low is None
    assert quantity_number(reading, V1_1, "gme").low is not None


def test_the_domains_of_one_model_stand_side_by_side(run: Run, tmp_path: Path) -> None:
    human = planted_run(tmp_path / "human", planted_suite("opens2v-human", Domain.HUMAN), model="refalign-1.3b")
    again = planted_run(tmp_path / "again", planted_suite("opens2v-human", Domain.HUMAN), model="refalign-1.3b", seed=1)
    other = planted_run(tmp_path / "other", planted_suite(), model="squares")
    read = readings(run, human, again, other)
    table = domains_table(read)
    assert table is not None
    assert [section.heading for section in table.sections] == ["refalign-1.3b"]
    assert table.columns == ("metric", "open", "human", "open", "human")
    assert [(group.first, group.last, group.heading) for group in table.groups] == [(1, 2, V1_1), (3, 4, STRICT)]
    for row, of in zip(table.rows, ("total", *METRIC_BY_ID), strict=True):
        wanted = [quantity_number(one, protocol, of) for protocol in (V1_1, STRICT) for one in read[:2]]
        assert numbers(row) == wanted
    assert any("seed 0 is shown, not refalign-1.3b, seed 1" in note for note in table.notes)
    assert domains_table(readings(run, other)) is None


def test_protocols_stand_beside_each_other_with_their_difference(run: Run) -> None:
    table = protocols_table(readings(run))
    official, strict, difference = map(numbers, table.rows)
    assert [row[0] for row in table.rows] == [V1_1, STRICT, "difference"]
    for one, other, moved in zip(official, strict, difference, strict=True):
        assert one.value is not None and other.value is not None and moved.value is not None
        assert moved.value == pytest.approx(other.value - one.value)
    assert official[1].applicable == 8
    facesim = 1 + list(METRIC_BY_ID).index("facesim")
    assert (official[facesim].applicable, strict[facesim].applicable) == (4, 6)


def test_every_value_of_a_run_shows_its_cases_in_every_table(run: Run, tmp_path: Path) -> None:
    human = planted_run(tmp_path / "human", planted_suite("opens2v-human", Domain.HUMAN), model="refalign-1.3b")
    tables = paper_tables(readings(run, human))
    assert len(tables) == 2 * 4 + 1
    for name, table in tables:
        for row in table.rows:
            if row[0] == "difference" or "published" in row:
                continue
            for number in numbers(row):
                assert number.value is None or f"{number.scored}/{number.applicable}" in Cell(number), name


def test_files_of_one_suite_and_of_two(run: Run, tmp_path: Path) -> None:
    written, left_out = write_paper([run], tmp_path / "one")
    names = ["main", "categories-opens2v-v1.1", "categories-strict", "protocols"]
    tables = [f"tables/{name}.{suffix}" for name in names for suffix in ("md", "tex", "csv", "html")]
    figures = [
        f"figures/{name}.{suffix}"
        for name in ("profiles", "categories", "distributions", "protocols")
        for suffix in ("svg", "png")
    ]
    assert [str(path.relative_to(tmp_path / "one")) for path in written] == tables + figures
    assert left_out == []
    human = planted_run(tmp_path / "human", planted_suite("opens2v-human", Domain.HUMAN), model="refalign-1.3b")
    two, _ = write_paper([run, human], tmp_path / "two")
    stems = {path.stem for path in two}
    assert {"main-opens2v-open", "main-opens2v-human", "domains", "profiles-opens2v-human"} <= stems
    assert all(path.stat().st_size for path in two)


def test_a_copied_run_gives_the_same_bytes(run: Run, tmp_path: Path) -> None:
    first, _ = write_paper([run], tmp_path / "first")
    shutil.copytree(run.folder, tmp_path / "elsewhere" / "copy")
    shutil.rmtree(run.folder)
    again, _ = write_paper([Run(tmp_path / "elsewhere" / "copy")], tmp_path / "again")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


def test_an_empty_run_still_has_its_tables_and_figures(tmp_path: Path) -> None:
    suite = planted_suite()
    nothing = [(metric, case.id) for metric in METRIC_BY_ID for case in suite.cases]
    run = planted_run(tmp_path / "run", suite, without=nothing)
    written, _ = write_paper([run], tmp_path / "out")
    [row] = [
        row
        for row in csv.DictReader(io.StringIO((tmp_path / "out/tables/main.csv").read_text()))
        if row["source"] == "run"
    ]
    assert (row["FaceSim"], row["FaceSim scored"], row["FaceSim applicable"]) == ("", "0", "4")
    assert len(written) == 24


def test_the_command_writes_the_page_only_for_one_suite(run: Run, tmp_path: Path) -> None:
    human = planted_run(tmp_path / "human", planted_suite("opens2v-human", Domain.HUMAN), model="refalign-1.3b")
    stale = run.folder / "reports" / "tables" / "old.md"
    stale.parent.mkdir(parents=True)
    stale.write_text("of other runs")
    done = CliRunner().invoke(app, ["report", str(run.folder), str(human.folder)])
    assert done.exit_code == 0, done.output
    assert "the page is left out" in " ".join(done.output.split())
    place = run.folder / "reports"
    assert (place / "tables/domains.tex").is_file() and not (place / "index.html").exists()
    assert not stale.exists()
    assert CliRunner().invoke(app, ["report", str(run.folder)]).exit_code == 0
    assert (place / "index.html").is_file() and not (place / "tables/domains.tex").exists()


def test_without_matplotlib_the_report_says_so_once_and_has_its_tables(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from refeval.reports.figures import runs as drawing

    monkeypatch.setattr(drawing.importlib.util, "find_spec", lambda _: None)
    written, left_out = write_paper([run], tmp_path / "out")
    assert len(left_out) == 1 and "pip install 'refeval[figures]'" in left_out[0]
    assert {path.parent.name for path in written} == {"tables"}
