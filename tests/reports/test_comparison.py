"""The tables of a comparison say what the comparison says."""

from __future__ import annotations

from pathlib import Path

import pytest

from refeval.baselines import Baseline, baseline_of
from refeval.cases import Domain
from refeval.comparing import JudgeDrift, Terms, compare
from refeval.gates import judge, parse_gates
from refeval.metrics.judges.calibration import Drift
from refeval.protocols import ProtocolName
from refeval.records import ScoreStatus
from refeval.reports.comparison import comparison_tables, deltas_table, drift_sentence
from refeval.statistics import Resampling
from tests.refeval.small_sides import even, folder_of, side, suite_of
from tests.reports.small_run import unscored

FEW = Resampling(resamples=200)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[Baseline, Baseline]:
    folder = tmp_path_factory.mktemp("sides")
    return side(folder / "base", even(suite_of(), 0.6)), side(folder / "new", even(suite_of(), 0.5, 0.03), seed=1)


def test_numbers_are_in_points(sides: tuple[Baseline, Baseline]) -> None:
    comparison = compare([sides[0]], [sides[1]], Terms(resampling=FEW))
    table = deltas_table(comparison)
    rows = {row[0]: row for row in table.rows}
    assert next(iter(rows)) == "TotalScore"
    row = next(row for row in comparison.rows if row.delta.of == "gme")
    delta = row.delta
    assert None not in (delta.base, delta.candidate, delta.delta, delta.low, delta.high, delta.p, delta.detectable)
    assert rows["GmeScore"] == (
        "GmeScore",
        "60.00\n20/20",
        "50.00\n20/20",
        f"-10.00\n{100 * (delta.low or 0):+.2f}, {100 * (delta.high or 0):+.2f}",
        f"{delta.p:.4f}\n{delta.p_holm:.4f}",
        "20",
        f"{100 * (delta.detectable or 0):.2f}",
    )
    assert "squares, seed 1 against squares, seed 0" in table.title


def test_what_has_no_value_is_no_number(sides: tuple[Baseline, Baseline], tmp_path: Path) -> None:
    run = folder_of(tmp_path / "run", even(suite_of()))
    for case in run.suite().cases:
        run.score_path("gme", case.id).unlink()
    run.write_score(unscored("singleobj_1", "natural", ScoreStatus.FAILED, "broken"))
    less = baseline_of(run)
    table = deltas_table(compare([sides[0]], [less], Terms(resampling=FEW)))
    rows = {row[0]: row for row in table.rows}
    assert rows["GmeScore"][2:4] == ("absent\n0/20", "–")
    assert rows["TotalScore"][2].split("\n")[0].endswith("†")
    assert rows["TotalScore"][2].endswith("\n99/120")
    assert any(note.startswith("†") for note in table.notes)
    strict = deltas_table(compare([sides[0]], [less], Terms(protocol=ProtocolName.STRICT, resampling=FEW)))
    assert strict.rows[0][2:4] == ("undefined\n104/125", "–")


def test_gates_losses_and_what_was_allowed_are_shown(sides: tuple[Baseline, Baseline]) -> None:
    other = Baseline.model_validate({**sides[1].model_dump(), "suite": {**sides[1].suite, "sha256": "5" * 64}})
    terms = Terms(allowed=frozenset({"suite-version"}), resampling=FEW)
    gates = parse_gates(["facesim:-1", "all:+1"], ProtocolName.V1_1, Domain.OPEN)
    judged = judge(compare([sides[0]], [other], terms), gates)
    deltas, categories, losses, verdicts = comparison_tables(judged, 3)
    assert any("was allowed (suite-version)" in note and "555555555555" in note for note in deltas.notes)
    assert [row[0] for row in categories.rows] == ["singleface", "singleobj", "multiface", "humanobj"]
    assert len(losses.rows) == 3
    assert verdicts.rows[0][:2] == ("BREACH", "facesim:-1")
    assert len(verdicts.rows) == 8
    assert len(comparison_tables(judged, 0)) == 3, "without the losses"


@pytest.mark.parametrize(
    ("drift", "told"),
    [
        (
            Drift(reference="r", mean=-0.25, clips={"a": -0.25}, left_out=[], served_changed=False),
            "moved by -0.25 (seed 4)",
        ),
        (
            Drift(reference="r", mean=0.5, clips={"a": 0.5}, left_out=["b"], served_changed=True),
            "moved by +0.50 (seed 4, without 1 of 2; another model answers)",
        ),
        (Drift(reference="r", mean=None, clips={}, left_out=["b"], served_changed=False), "not known: no clip"),
    ],
)
def test_drift_in_words(drift: Drift, told: str) -> None:
    assert told in drift_sentence(JudgeDrift(seed=4, drift=drift, reason=None))
