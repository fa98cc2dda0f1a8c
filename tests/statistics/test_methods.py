"""Intervals, tests and corrections against scipy, and against a second way to compute them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from refeval.errors import BadInput
from refeval.protocols import ProtocolName
from refeval.statistics.aggregation import Aggregation, aggregate
from refeval.statistics.intervals import bca_interval, percentile_interval, wilson_interval
from refeval.statistics.scores import FloatArray
from refeval.statistics.strata import Strata
from refeval.statistics.testing import holm, permutation_p
from tests.statistics.benchmarks_at_random import METRICS, normal_scores, scores_of, values_from

RESAMPLES = 100_000
GME = METRICS.index("gme")


def gme_only(values: FloatArray, *, per_category: int = 1000) -> Aggregation:
    """A run whose other metrics are all the same."""
    categories = [f"c{i // per_category}" for i in range(len(values))]
    return aggregate(scores_of(categories, {m: values * (m == "gme") for m in METRICS}), ProtocolName.V1_1)


@pytest.mark.parametrize(("method", "scipys"), [("bca", "BCa"), ("percentile", "percentile")])
def test_intervals_of_an_unstratified_mean_are_scipys(method: str, scipys: str) -> None:
    # Quantiles of 100 000 draws scatter by .0024 of the width (standard deviation), those of scipy as well; and
    # n - 1 draws weighing n / (n - 1) spread 1 / 2n = .004 wider than scipy's n draws. BCa moves the ends by far more.
    values = np.random.default_rng(0).beta(0.5, 3.0, size=120)
    run, strata = gme_only(values), Strata(["c"] * len(values))
    draws = run.totals(strata.draw(RESAMPLES, np.random.default_rng(1)))
    if method == "bca":
        ends = bca_interval(draws, run.values(), strata.centred(run.influence()), level=0.95)
    else:
        ends = percentile_interval(draws, level=0.95)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, method=scipys, rng=np.random.default_rng(2)
    ).confidence_interval
    assert ends[:, GME] == pytest.approx([theirs.low, theirs.high], abs=0.012 * (theirs.high - theirs.low))


def test_bca_leans_towards_the_long_tail() -> None:
    values = np.random.default_rng(0).beta(0.5, 6.0, size=60)
    run, strata = gme_only(values), Strata(["c"] * len(values))
    draws = run.totals(strata.draw(RESAMPLES, np.random.default_rng(1)))
    bca = bca_interval(draws, run.values(), strata.centred(run.influence()), level=0.95)[:, GME]
    percentile = percentile_interval(draws, level=0.95)[:, GME]
    assert (bca - percentile > 0.02 * (percentile[1] - percentile[0])).all()


def test_bca_corrects_twice_for_the_median_of_the_draws() -> None:
    # Without skew the ends are the quantiles Phi(2 z0 -+ 1.96), z0 from the share of draws below the value.
    draws = np.linspace(0, 1, 100_001)[:, None]
    z0 = scipy.stats.norm.ppf(0.6)
    ends = bca_interval(draws, np.array([0.6]), np.array([[-1.0], [1.0]]), level=0.95)
    expected = scipy.stats.norm.cdf(2 * z0 + scipy.stats.norm.ppf([[0.025], [0.975]]))
    np.testing.assert_allclose(ends, expected, atol=1e-4)


def test_the_unit_of_a_metric_does_not_matter_to_bca() -> None:
    values = np.random.default_rng(0).beta(0.5, 6.0, size=30)
    run, strata = gme_only(values), Strata(["c"] * len(values))
    draws = run.totals(strata.draw(2000, np.random.default_rng(1)))[:, [GME]]
    centred, value = strata.centred(run.influence())[:, [GME]], run.values()[[GME]]
    ends = bca_interval(draws, value, centred, level=0.95)
    for unit in (1e-300, 1e-120, 1e9):
        scaled = bca_interval(draws * unit, value * unit, centred * unit, level=0.95)
        np.testing.assert_allclose(scaled, ends * unit, rtol=1e-12)


def test_undefined_draws_are_left_out() -> None:
    draws = np.array([[0.0, np.nan], [1.0, np.nan], [np.nan, np.nan]])
    low, high = percentile_interval(draws, level=0.5)
    assert (low[0], high[0]) == pytest.approx((0.25, 0.75)) and np.isnan([low[1], high[1]]).all()


def test_few_degrees_widen_as_students_t_does() -> None:
    draws = np.random.default_rng(0).normal(size=(400_000, 1))
    narrow, wide = (percentile_interval(draws, level=0.95, degrees=degrees)[1, 0] for degrees in (math.inf, 8))
    assert narrow == pytest.approx(scipy.stats.norm.ppf(0.975), abs=0.02)
    assert wide == pytest.approx(scipy.stats.t.ppf(0.975, 8), abs=0.03)


@given(n=st.integers(1, 500), data=st.data(), level=st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_scipys(n: int, data: st.DataObject, level: float) -> None:
    successes = data.draw(st.integers(0, n))
    theirs = scipy.stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    assert wilson_interval(successes, n, level=level) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_no_proportion(successes: int, n: int) -> None:
    with pytest.raises(BadInput, match="no proportion"):
        wilson_interval(successes, n)


def test_draws_keep_categories_and_their_spread_is_unbiased() -> None:
    sizes = (1, 2, 5, 12)
    categories = [f"c{k}" for k, size in enumerate(sizes) for _ in range(size)]
    strata, values = Strata(categories), np.random.default_rng(0).exponential(size=sum(sizes)) / 8
    weights = strata.draw(200_000, np.random.default_rng(1))
    for k in range(len(sizes)):
        members = [i for i, category in enumerate(categories) if category == f"c{k}"]
        assert weights[:, members].sum(axis=1) == pytest.approx(sizes[k])
    parts = np.split(values, np.cumsum(sizes)[:-1])
    textbook = sum(len(part) * part.var(ddof=1) for part in parts if len(part) > 1) / len(values) ** 2
    run = gme_only(values)
    # The variance of 200 000 draws is known to .3 % (standard error); n draws per category would lack about 15 %.
    assert run.totals(weights)[:, GME].var() == pytest.approx(textbook, rel=0.015)
    assert strata.variance(run.influence())[GME] == pytest.approx(textbook, rel=1e-12)
    assert strata.degrees == 16


@given(seed=st.integers(0, 1000), n=st.integers(2, 10))
def test_few_cases_are_permuted_exactly_as_scipy_does(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, 5, size=n), rng.integers(0, 5, size=n)
    ours = permutation_p(gme_only(first / 5), gme_only(second / 5), resamples=10, rng=rng)[GME]
    theirs = scipy.stats.permutation_test(
        (second, first),
        lambda a, b, axis: np.abs(np.sum(a - b, axis=axis)),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
        alternative="greater",
    )
    assert ours == pytest.approx(theirs.pvalue, abs=1e-12)


@pytest.mark.parametrize("protocol", ProtocolName)
def test_swaps_go_through_the_whole_protocol(protocol: ProtocolName) -> None:
    # Each of the 2^7 swaps written out as two runs; zeros of NexusScore move from one mean to the other.
    rng, n = np.random.default_rng(5), 7
    pair = [values_from(normal_scores(n, rng), np.full(n, 0.3)) for _ in range(2)]
    pair[0]["nexus"][:4] = 0
    pair[1]["nexus"][2:6] = 0

    def delta(swapped: NDArray[np.bool_]) -> FloatArray:
        columns = [{m: np.where(swapped, b[m], a[m]) for m in METRICS} for a, b in (pair, pair[::-1])]
        first, second = (aggregate(scores_of(["c"] * n, x), protocol).values() for x in columns)
        return second - first

    observed = np.abs(delta(np.zeros(n, dtype=bool)))
    swaps = [np.abs(delta(np.array(swapped))) for swapped in itertools.product([False, True], repeat=n)]
    expected = np.mean([swap >= observed - 1e-12 for swap in swaps], axis=0)
    runs = [aggregate(scores_of(["c"] * n, columns), protocol) for columns in pair]
    assert permutation_p(*runs, resamples=10, rng=rng) == pytest.approx(list(expected), abs=1e-12)
    assert 1 / 2**n < expected.min() and expected.min() < 0.9


def test_many_cases_are_permuted_at_random() -> None:
    # Both estimate the same p below .3 from 100 000 assignments: standard error at most .0015 each.
    rng = np.random.default_rng(3)
    first, second = 0.9 * rng.random(60), 0.9 * rng.random(60) + 0.08
    ours = permutation_p(gme_only(first), gme_only(second), resamples=RESAMPLES, rng=rng)[GME]
    theirs = scipy.stats.permutation_test(
        (second - first,),
        lambda d, axis: np.abs(np.mean(d, axis=axis)),
        permutation_type="samples",
        n_resamples=RESAMPLES,
        vectorized=True,
        alternative="greater",
        rng=np.random.default_rng(4),
    )
    assert 0.05 < theirs.pvalue < 0.3
    assert ours == pytest.approx(theirs.pvalue, abs=4 * 0.0015 * 2**0.5)


def test_p_is_never_zero() -> None:
    first = np.linspace(0.1, 0.4, 40)
    assert permutation_p(gme_only(first), gme_only(first + 0.5), resamples=999, rng=np.random.default_rng(0))[GME] == (
        pytest.approx(1 / 1000)
    )


@given(st.lists(st.none() | st.floats(0, 1), max_size=6))
def test_holm_is_the_closed_bonferroni_test(p_values: list[float | None]) -> None:
    known = [i for i, p in enumerate(p_values) if p is not None]
    sets = [s for size in range(1, len(known) + 1) for s in itertools.combinations(known, size)]
    for i, corrected in enumerate(holm(p_values)):
        if i in known:
            expected = max(min(1.0, len(s) * min(p_values[j] for j in s)) for s in sets if i in s)
            assert corrected == pytest.approx(expected, abs=1e-15)
        else:
            assert corrected is None
