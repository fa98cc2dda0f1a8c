"""What a comparison promises whatever the scores: symmetry, shifts, identity, missing cases."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refeval.cases import Suite
from refeval.errors import BadInput
from refeval.protocols import ProtocolName, Total, run_total
from refeval.records import ScoreRecord, ScoreStatus
from refeval.statistics import (
    CaseScores,
    Delta,
    IntervalMethod,
    Resampling,
    compare_runs,
    detectable_effect,
    estimate_run,
    from_records,
    plan_comparison,
)
from tests.statistics.benchmarks_at_random import METRICS, normal_scores, scores_of, values_from

RecordLists = st.SearchStrategy[list[ScoreRecord]]
FEW = Resampling(resamples=400)
V1_1, STRICT = ProtocolName.V1_1, ProtocolName.STRICT


def made_up(seed: int, *, categories: int = 6, per_category: int = 4, lift: float = 0.0) -> CaseScores:
    rng, n = np.random.default_rng(seed), categories * per_category
    labels = [f"c{i // per_category}" for i in range(n)]
    return scores_of(
        labels, values_from(normal_scores(n, rng) + lift, np.repeat(np.linspace(0, 1, categories), per_category))
    )


def by_quantity(rows: tuple[Delta, ...]) -> dict[str, Delta]:
    return {row.of: row for row in rows}


@pytest.mark.parametrize("protocol", ProtocolName)
def test_identical_runs_do_not_differ(protocol: ProtocolName) -> None:
    for row in compare_runs(made_up(0), made_up(0), protocol, resampling=FEW):
        assert (row.delta, row.low, row.high, row.p, row.p_holm, row.detectable) == (0, 0, 0, 1, 1, 0)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), protocol=st.sampled_from(ProtocolName), method=st.sampled_from(IntervalMethod))
def test_swapping_base_and_candidate_flips_signs(seed: int, protocol: ProtocolName, method: IntervalMethod) -> None:
    first, second = made_up(seed), made_up(seed + 1)
    resampling = Resampling(resamples=400, method=method)
    there, back = (compare_runs(*pair, protocol, resampling=resampling) for pair in ((first, second), (second, first)))
    for one, other in zip(there, back, strict=True):
        assert other.delta == pytest.approx(-one.delta, abs=1e-15)
        assert (other.low, other.high) == pytest.approx((-one.high, -one.low), abs=1e-12)
        assert (other.p, other.p_holm) == (one.p, one.p_holm)
        assert (other.n_pairs, other.detectable) == (one.n_pairs, pytest.approx(one.detectable))


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), shift=st.floats(-0.1, 0.1))
def test_shifting_the_candidate_shifts_the_delta(seed: int, shift: float) -> None:
    base, candidate = made_up(seed), made_up(seed + 1)
    gme = dataclasses.replace(candidate.official["gme"], values=candidate.official["gme"].values + shift)
    shifted = dataclasses.replace(candidate, official={**candidate.official, "gme": gme})
    before = by_quantity(compare_runs(base, candidate, V1_1, resampling=FEW))
    after = by_quantity(compare_runs(base, shifted, V1_1, resampling=FEW))
    for end in ("delta", "low", "high"):
        assert getattr(after["gme"], end) == pytest.approx(getattr(before["gme"], end) + shift, abs=1e-12)
        assert getattr(after["total"], end) == pytest.approx(getattr(before["total"], end) + 0.12 * shift, abs=1e-12)
        assert getattr(after["facesim"], end) == getattr(before["facesim"], end)
    assert after["gme"].detectable == pytest.approx(before["gme"].detectable)


@settings(max_examples=25)
@given(data=st.data())
def test_values_are_those_of_the_totals(mixed_suite: Suite, score_records: RecordLists, data: st.DataObject) -> None:
    first, second = data.draw(score_records), data.draw(score_records)
    base, candidate = from_records(mixed_suite, first), from_records(mixed_suite, second)
    for protocol in ProtocolName:
        totals = [run_total(mixed_suite, records, protocol=protocol) for records in (first, second)]
        rows = compare_runs(base, candidate, protocol, resampling=FEW)
        scored = {m.metric: m.scored + n.scored for m, n in zip(*(total.metrics for total in totals), strict=True)}
        scored["total"] = sum(scored.values())
        for row, values in zip(rows, zip(*map(_values, totals), strict=True), strict=True):
            assert (row.base is None, row.candidate is None) == tuple(value is None for value in values)
            known = None not in values
            assert (row.delta is not None) is known
            assert all((x is not None) is (known and scored[row.of] > 0) for x in (row.p, row.p_holm))
            assert (row.low is None) is (row.high is None) is (row.detectable is None)
            assert row.low is None or known
            if known:
                assert row.delta == pytest.approx(values[1] - values[0], abs=1e-12)
            if row.p is not None:
                assert 0 < row.p <= row.p_holm <= 1
        for estimate, value in zip(estimate_run(base, protocol, resampling=FEW), _values(totals[0]), strict=True):
            assert (estimate.low is None) is (estimate.high is None)
            assert estimate.low is None or (value is not None and estimate.n > 1)
            assert estimate.value == (None if value is None else pytest.approx(value, abs=1e-12))


def test_a_failing_case_counts_as_the_protocol_says() -> None:
    # The worst case of the candidate fails: official means rise, strict ones are undefined or a lower bound.
    base, candidate = made_up(0), made_up(0)
    values = candidate.official["gme"].values.copy()
    worst = int(np.argmin(values))
    values[worst] = np.nan
    gme = dataclasses.replace(candidate.official["gme"], values=values)
    failing = dataclasses.replace(candidate, **{k: {**candidate.official, "gme": gme} for k in ("official", "strict")})
    official = by_quantity(compare_runs(base, failing, V1_1, resampling=FEW))
    assert official["gme"].delta > 0 and official["gme"].n_pairs == 23 and official["total"].n_pairs == 24
    strict = by_quantity(compare_runs(base, failing, STRICT, resampling=FEW))
    for of in ("gme", "total"):
        assert strict[of].base is not None
        assert {strict[of].candidate, strict[of].delta, strict[of].p, strict[of].p_holm, strict[of].low} == {None}
    assert strict["facesim"].delta == 0
    allowed = by_quantity(compare_runs(base, failing, STRICT, allow_missing=True, resampling=FEW))
    assert allowed["gme"].delta == pytest.approx(-base.strict["gme"].values[worst] / 24)
    # The same failing case in both runs tells nothing about their difference.
    for row in compare_runs(failing, failing, V1_1, resampling=FEW):
        assert (row.delta, row.low, row.high, row.p) == (0, 0, 0, 1)


def test_a_seed_repeats_and_another_moves_a_little() -> None:
    scores = made_up(0)
    first, again = (estimate_run(scores, STRICT, resampling=FEW) for _ in range(2))
    assert first == again and first[0].resampling == FEW
    other = estimate_run(scores, STRICT, resampling=dataclasses.replace(FEW, seed=1))
    assert [row.value for row in other] == [row.value for row in first]
    assert [row.low for row in other] != [row.low for row in first]


@pytest.mark.parametrize("method", IntervalMethod)
def test_levels_are_nested_around_the_value(method: IntervalMethod) -> None:
    narrow, wide = (
        estimate_run(made_up(0), STRICT, resampling=Resampling(resamples=2000, level=level, method=method))
        for level in (0.5, 0.99)
    )
    for inner, outer in zip(narrow, wide, strict=True):
        assert outer.low < inner.low < inner.value < inner.high < outer.high


def test_the_total_is_not_corrected_and_the_metrics_are() -> None:
    rows = compare_runs(made_up(0), made_up(1, lift=0.5), V1_1, resampling=FEW)
    assert rows[-1].of == "total" and rows[-1].p_holm == rows[-1].p
    smallest = min(rows[:-1], key=lambda row: row.p)
    assert smallest.p_holm == pytest.approx(min(1, len(METRICS) * smallest.p))


def test_a_metric_without_a_case_is_no_test_and_one_that_a_side_lost_is() -> None:
    def without(scores: CaseScores, metric: str) -> CaseScores:
        reading = scores.official[metric]
        lost = dataclasses.replace(reading, values=np.full_like(reading.values, np.nan))
        return dataclasses.replace(scores, official={**scores.official, metric: lost})

    base, candidate = (without(made_up(seed), "natural") for seed in (0, 1))
    rows = compare_runs(base, without(candidate, "gme"), V1_1, resampling=FEW)
    assert {row.of for row in rows if row.n_pairs == 0} == {"natural", "gme"}
    assert {row.of for row in rows if row.p is None} == {"natural"}
    tested = [row for row in rows[:-1] if row.p is not None]
    smallest = min(tested, key=lambda row: row.p)
    assert smallest.of == "gme" and smallest.p == pytest.approx(1 / (1 + FEW.resamples))
    assert len(tested) == 6 and smallest.p_holm == pytest.approx(min(1, 6 * smallest.p))


def test_without_two_cases_of_a_category_nothing_is_known_of_the_spread() -> None:
    """A suite of one case per category: an interval of width 0 would be a lie, and the exact test still holds."""
    base, candidate = (made_up(seed, categories=7, per_category=1) for seed in (0, 1))
    for row in (*compare_runs(base, candidate, STRICT, resampling=FEW), *estimate_run(base, STRICT, resampling=FEW)):
        assert (row.low, row.high) == (None, None)
    rows = compare_runs(base, candidate, STRICT, resampling=FEW)
    assert all(row.detectable is None and row.p is not None and row.p >= 2 / 2**7 for row in rows)
    for plan in plan_comparison(base, STRICT, correlation=0):
        assert (plan.standard_error, plan.detectable) == (None, None)
    # One pair of a category is enough for what counts it, and does nothing for a metric that counts one case.
    pair = made_up(0, categories=4, per_category=2)
    lone = pair.official["facesim"]
    values = np.where(np.arange(8) == 3, lone.values, np.nan)
    facesim = dataclasses.replace(lone, values=values)
    changed = dataclasses.replace(pair, official={**pair.official, "facesim": facesim})
    rows = by_quantity(compare_runs(changed, pair, V1_1, resampling=FEW))
    assert rows["gme"].low is not None and rows["facesim"].low is not None
    assert by_quantity(estimate_run(changed, V1_1, resampling=FEW))["facesim"].low is None


def test_metrics_that_were_never_scored_do_not_weaken_the_correction() -> None:
    """Strict, missing cases counted as the lowest: six absent metrics are no tests beside the one that is there."""

    def only_gme(scores: CaseScores) -> CaseScores:
        readings = {
            metric: reading if metric == "gme" else dataclasses.replace(reading, values=np.full(24, np.nan))
            for metric, reading in scores.strict.items()
        }
        return dataclasses.replace(scores, strict=readings)

    base, candidate = (only_gme(made_up(seed)) for seed in (0, 1))
    rows = by_quantity(compare_runs(base, candidate, STRICT, allow_missing=True, resampling=FEW))
    assert {of for of, row in rows.items() if row.p is not None} == {"gme", "total"}
    assert rows["gme"].p_holm == rows["gme"].p


def test_a_plan_from_one_run_agrees_with_the_comparison_it_plans() -> None:
    # Two runs of 600 cases that are alike to .3 or so in GmeScore: the plan only needs that number.
    rng, n = np.random.default_rng(0), 600
    labels, category = [f"c{i // 50}" for i in range(n)], np.zeros(n)
    common = rng.normal(size=(n, len(METRICS)))
    first, second = (
        scores_of(labels, values_from(np.sqrt(0.3) * common + np.sqrt(0.7) * rng.normal(size=common.shape), category))
        for _ in range(2)
    )
    found = by_quantity(compare_runs(first, second, V1_1, resampling=FEW))["gme"]
    plans = {plan.of: plan for plan in plan_comparison(first, V1_1, correlation=0.3)}
    assert plans["gme"].detectable == pytest.approx(found.detectable, rel=0.08)
    assert plans["gme"].standard_error == pytest.approx(0.06 / n**0.5, rel=0.1)
    unrelated = {plan.of: plan for plan in plan_comparison(first, V1_1, correlation=0)}
    assert plans["gme"].detectable == pytest.approx(unrelated["gme"].detectable * 0.7**0.5)
    with pytest.raises(BadInput, match="correlation"):
        plan_comparison(first, V1_1, correlation=1)


def test_a_detectable_effect_is_about_two_point_eight_standard_errors() -> None:
    assert detectable_effect(1.0, 1e9) == pytest.approx(1.959964 + 0.841621, abs=1e-5)
    assert detectable_effect(1.0, 10) > detectable_effect(1.0, 100)


def test_a_plan_has_nothing_to_say_of_an_undefined_metric(mixed_suite: Suite) -> None:
    record = ScoreRecord(metric="gme", case="faceobj_1", status=ScoreStatus.FAILED, reason="planted", task_key="0")
    for plan in plan_comparison(from_records(mixed_suite, [record]), STRICT, correlation=0):
        assert plan.detectable is None and plan.standard_error is None


def _values(total: Total) -> list[float | None]:
    return [*(metric.normalised for metric in total.metrics), total.total]
