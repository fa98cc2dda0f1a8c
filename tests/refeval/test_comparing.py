"""Comparisons: the deltas are those of the totals, losses add up, and nothing depends on an order."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refeval.baselines import Baseline, BaselineCase, baseline_of, read_baseline
from refeval.cases import Domain, Suite
from refeval.comparing import Terms, compare
from refeval.errors import BadInput
from refeval.metrics.judges.calibration import Calibration
from refeval.protocols import ProtocolName, case_contributions, run_total
from refeval.records import ScoreRecord, ScoreStatus
from refeval.runs import ClipText
from refeval.statistics import Resampling, compare_runs, compare_seeds, from_records
from tests.refeval.small_sides import even, folder_of, side, suite_of
from tests.reports.small_run import small_suite, unscored

FEW = Resampling(resamples=200)


def _baseline(suite: Suite, records: list[ScoreRecord], **settings: int) -> Baseline:
    scores: dict[str, dict[str, float | tuple[float, float] | ScoreStatus]] = {}
    for record in records:
        pair = (record.value, record.strict_value)
        entry = (pair[0], pair[1]) if pair[0] is not None and pair[1] is not None else record.status
        scores.setdefault(record.metric, {})[record.case] = entry
    return Baseline(
        refeval_version="0",
        git_commit=None,
        suite={"name": suite.name, "domain": suite.domain.value, "sha256": suite.sha256, "cases": len(suite.cases)},
        model="m",
        generator_version="1",
        settings={},
        weights={},
        seed=settings.get("seed", 0),
        clip=ClipText.of(suite.clip),
        cases=[BaselineCase.of(case) for case in suite.cases],
        made_by={},
        random_weights=[],
        calibration=None,
        scores=scores,
    )


@given(data=st.data())
@settings(max_examples=40)
def test_rows_are_the_totals_of_the_two_sides(
    data: st.DataObject, mixed_suite: Suite, score_records: st.SearchStrategy[list[ScoreRecord]]
) -> None:
    protocol = data.draw(st.sampled_from(list(ProtocolName)))
    allow_missing = data.draw(st.booleans())
    sides = [data.draw(score_records) for _ in range(2)]
    baselines = [_baseline(mixed_suite, records) for records in sides]
    terms = Terms(protocol=protocol, allow_missing=allow_missing, resampling=FEW)
    found = compare([baselines[0]], [baselines[1]], terms)
    for name, records in zip(("base", "candidate"), sides, strict=True):
        total = run_total(mixed_suite, records, protocol=protocol, allow_missing=allow_missing)
        wanted = [*(metric.normalised for metric in total.metrics), total.total]
        for row, value in zip(found.rows, wanted, strict=True):
            got = getattr(row.delta, name)
            assert got == (None if value is None else pytest.approx(value, abs=1e-12))
        coverage = [getattr(row, name) for row in found.rows[:-1]]
        assert [(c.scored, c.applicable) for c in coverage] == [(m.scored, m.applicable) for m in total.metrics]
    assert found.complete == all(run_total(mixed_suite, records, protocol=protocol).complete for records in sides)


@given(data=st.data())
@settings(max_examples=20)
def test_the_order_of_the_records_is_nothing(
    data: st.DataObject, mixed_suite: Suite, score_records: st.SearchStrategy[list[ScoreRecord]]
) -> None:
    first, second = data.draw(score_records), data.draw(score_records)
    shuffled = [data.draw(st.permutations(records)) for records in (first, second)]
    texts = [
        json.dumps(compare([_baseline(mixed_suite, a)], [_baseline(mixed_suite, b)], Terms(resampling=FEW)).as_json(99))
        for a, b in ((first, second), shuffled)
    ]
    assert texts[0] == texts[1]


def test_the_statistics_are_those_of_the_library(tmp_path: Path) -> None:
    suite = suite_of()
    runs = [folder_of(tmp_path / str(k), even(suite, 0.5 - 0.02 * (k > 1), 0.01 + k / 500), seed=k) for k in range(4)]
    scores = [from_records(run.suite(), run.score_records()) for run in runs]
    sides = [baseline_of(run) for run in runs]
    one = compare([sides[0]], [sides[2]], Terms(resampling=FEW))
    wanted = compare_runs(scores[0], scores[2], ProtocolName.V1_1, resampling=FEW)
    assert [row.delta for row in one.rows] == list(wanted)
    several = compare(sides[:2], sides[2:], Terms(resampling=FEW))
    wanted = compare_seeds(scores[:2], scores[2:], ProtocolName.V1_1, resampling=FEW)
    assert [row.delta for row in several.rows] == list(wanted)
    assert str(several.rows[-1].base) == "240/240", "five metrics of 20 cases, two of 10, twice"
    assert several.base.seeds == (0, 1)
    with pytest.raises(BadInput, match="2 of the base, 1 of the candidate"):
        compare(sides[:2], sides[2:3], Terms(resampling=FEW))


@pytest.mark.parametrize("protocol", [ProtocolName.V1_1, ProtocolName.STRICT])
def test_losses_and_gains_are_the_contributions_of_the_cases(tmp_path: Path, protocol: ProtocolName) -> None:
    suite = suite_of()
    base = folder_of(tmp_path / "base", even(suite, 0.7))
    worse = folder_of(tmp_path / "worse", {case: part - 0.3 for case, part in even(suite, 0.7, 0.03).items()})
    found = compare([baseline_of(base)], [baseline_of(worse)], Terms(protocol=protocol, resampling=FEW))
    shares: dict[tuple[str, str], float] = {}
    for run, sign in ((base, -1), (worse, 1)):
        for case in suite.cases:
            for entry in case_contributions(suite, run.score_records(), case.id, protocol=protocol):
                shares[case.id, entry.metric] = shares.get((case.id, entry.metric), 0) + sign * (entry.share or 0)
    assert {(loss.case, loss.metric): pytest.approx(loss.share) for loss in found.losses} == {
        key: share for key, share in shares.items() if share < 0
    }
    assert [loss.share for loss in found.losses] == sorted(loss.share for loss in found.losses)
    total = found.rows[-1].delta.delta
    assert math.fsum(loss.share for loss in found.losses) == pytest.approx(total), "here every case loses"
    first = found.losses[0]
    records = [run.score_record(first.metric, first.case) for run in (base, worse)]
    strict = protocol is ProtocolName.STRICT
    values = [record and (record.strict_value if strict else record.value) for record in records]
    assert [first.base, first.candidate] == values


def test_a_case_that_fails_is_a_loss_with_its_status(tmp_path: Path) -> None:
    suite = suite_of()
    base = side(tmp_path / "base", even(suite))
    run = folder_of(tmp_path / "worse", even(suite))
    run.write_score(unscored("singleobj_3", "natural", ScoreStatus.UNPARSEABLE, "no number"))
    found = compare([base], [baseline_of(run)], Terms(resampling=FEW))
    (loss,) = [loss for loss in found.losses if loss.case == "singleobj_3" and loss.metric == "natural"]
    assert loss.candidate is ScoreStatus.UNPARSEABLE
    assert not found.complete
    assert not found.identical
    strict = compare([base], [baseline_of(run)], Terms(protocol=ProtocolName.STRICT, resampling=FEW))
    assert strict.rows[-1].delta.delta is None
    lower = compare([base], [baseline_of(run)], Terms(protocol=ProtocolName.STRICT, allow_missing=True, resampling=FEW))
    assert lower.rows[-1].delta.delta is not None
    assert lower.rows[-1].delta.delta < 0


def test_categories_are_means_over_their_cases(tmp_path: Path) -> None:
    suite = suite_of()
    quality = dict.fromkeys(even(suite), 0.5)
    base = side(tmp_path / "base", quality)
    lower = {case: 0.4 if case.startswith("humanobj") else part for case, part in quality.items()}
    found = compare([base], [side(tmp_path / "worse", lower)], Terms(resampling=FEW))
    deltas = {(entry.category, entry.metric): entry for entry in found.categories}
    assert deltas["humanobj", "gme"].delta == pytest.approx(-0.1)
    assert deltas["singleobj", "gme"].delta == 0
    assert deltas["singleobj", "facesim"].delta is None
    assert (deltas["humanobj", "nexus"].n_base, deltas["humanobj", "nexus"].n_candidate) == (5, 5)
    assert {category for category, _ in deltas} == {"singleface", "singleobj", "multiface", "humanobj"}


def test_two_identical_runs_have_a_delta_of_exactly_0(tmp_path: Path) -> None:
    one = side(tmp_path / "run", even(suite_of(), 0.3333))
    found = compare([one], [one], Terms(resampling=FEW))
    assert found.identical
    assert any("identical" in note for note in found.notes)
    assert {(row.delta.delta, row.delta.low, row.delta.high, row.delta.p) for row in found.rows} == {(0, 0, 0, 1)}
    assert found.losses == ()


def test_file_and_folder_compare_alike(tmp_path: Path) -> None:
    base = folder_of(tmp_path / "base", even(suite_of(), 0.6, 0.0123456789))
    candidate = side(tmp_path / "candidate", even(suite_of(), 0.5), seed=1)
    (tmp_path / "base.json").write_text(baseline_of(base).text())
    found = [
        json.dumps(compare([side_of], [candidate], Terms()).as_json(99))
        for side_of in (baseline_of(base), read_baseline(tmp_path / "base.json"))
    ]
    assert found[0] == found[1]


def test_domains_are_weighed_alike(tmp_path: Path) -> None:
    one = side(tmp_path / "run", even(suite_of()))
    human = Baseline.model_validate({**one.model_dump(), "suite": {**one.suite, "domain": "human"}})
    with pytest.raises(BadInput, match="different domains: human and open"):
        compare([one], [human], Terms(resampling=FEW))
    found = compare([one], [human], Terms(domain=Domain.HUMAN, resampling=FEW))
    assert "nexus" not in {row.delta.of for row in found.rows}


def _calibrated(one: Baseline, votes: float, *, judge: str = "a-judge") -> Baseline:
    calibration = Calibration(
        judge=judge,
        rubric={"wording": "official", "sha256": "7" * 64},
        set_version=1,
        asked=6,
        votes={"still": [votes] * 3, "moving": [votes + 1] * 3},
        served=["a-judge-1"],
    )
    return one.model_copy(update={"calibration": calibration})


def test_the_drift_of_the_judge_is_told(tmp_path: Path) -> None:
    one = side(tmp_path / "run", even(suite_of()))
    terms = Terms(resampling=FEW)
    (drift,) = compare([_calibrated(one, 2.0)], [_calibrated(one, 2.5)], terms).drifts
    assert drift.drift is not None
    assert drift.drift.mean == 0.5
    (drift,) = compare([_calibrated(one, 2.0)], [one], terms).drifts
    assert (drift.drift, drift.reason) == (
        None,
        "the judge of the candidate was not calibrated: it holds no calibration",
    )
    (drift,) = compare([_calibrated(one, 2.0)], [_calibrated(one, 2.0, judge="another")], terms).drifts
    assert drift.drift is None
    assert "another judge" in str(drift.reason)


def test_seeds_that_differ_and_lonely_categories_are_noted(tmp_path: Path) -> None:
    suite = suite_of(1)
    sides = [side(tmp_path / str(seed), even(suite), seed=seed, suite=suite) for seed in (0, 5)]
    notes = compare([sides[0]], [sides[1]], Terms(resampling=FEW)).notes
    assert any("seeds 0 and 5" in note for note in notes)
    assert any(note.startswith("No category has two cases") for note in notes)
    mixed = small_suite(None, {"singleface_1": ("Man",), "singleface_2": ("Man",), "multiface_1": ("Man", "Woman")})
    one = side(tmp_path / "mixed", even(mixed), suite=mixed)
    assert any(
        "one case" in note and "multiface" in note for note in compare([one], [one], Terms(resampling=FEW)).notes
    )
    assert not np.isnan([row.delta.delta for row in compare([sides[0]], [sides[1]], Terms()).rows]).any()
