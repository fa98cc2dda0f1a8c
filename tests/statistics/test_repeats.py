"""Seeds and repeated runs: against simulated systems whose components of variance are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from refeval.errors import BadInput
from refeval.protocols import ProtocolName
from refeval.statistics import (
    CaseScores,
    Resampling,
    compare_seeds,
    estimate_run,
    estimate_seeds,
    noise_floor,
    split_variance,
)
from refeval.statistics.repeats import NoiseFloor
from refeval.statistics.scores import FloatArray
from tests.statistics.benchmarks_at_random import METRICS, scores_of

STRICT = ProtocolName.STRICT
CATEGORIES, PER_CATEGORY = 8, 8
CASES = CATEGORIES * PER_CATEGORY
LABELS = [f"c{i // PER_CATEGORY}" for i in range(CASES)]
OFFSET = np.repeat(np.linspace(0, 0.1, CATEGORIES), PER_CATEGORY)


def system(
    rng: np.random.Generator, *, runs: int, seeds: float, cases: float, noise: float, common: FloatArray | None = None
) -> list[CaseScores]:
    """Runs of GmeScore .45 + category + seed + case + noise, far from the clamps; the other metrics stand still.

    ``seeds`` and so on are standard deviations of a run's mean: those of a single case are sqrt(CASES) times as
    large for ``cases`` and ``noise``.
    """
    case = rng.normal(size=CASES) * cases * CASES**0.5 if common is None else common
    found = []
    for _ in range(runs):
        gme = 0.45 + OFFSET + seeds * rng.normal() + case + noise * CASES**0.5 * rng.normal(size=CASES)
        found.append(scores_of(LABELS, {m: gme if m == "gme" else np.full(CASES, 0.5) for m in METRICS}))
    return found


def gme_of(rows: tuple[Any, ...]) -> Any:
    return next(row for row in rows if row.of == "gme")


def test_components_of_variance_are_found() -> None:
    # Means of 400 estimates from 6 seeds: the largest standard error, that of the seeds, is .05 of its square.
    rng, found = np.random.default_rng(0), []
    for _ in range(400):
        split = gme_of(split_variance(system(rng, runs=6, seeds=0.008, cases=0.01, noise=0.005), STRICT))
        found.append([split.seeds**2, split.cases**2, split.noise**2])
    seeds, cases, noise = np.mean(found, axis=0)
    assert seeds == pytest.approx(0.008**2, rel=0.15)
    assert cases == pytest.approx(0.01**2, rel=0.05)
    assert noise == pytest.approx(0.005**2, rel=0.03)


@pytest.mark.parametrize(
    ("runs", "seeds", "noise"),
    [
        # Seeds whose cases are independent, as the seeds of this program are: few degrees of freedom are lost.
        (3, 0.0, 0.01),
        # A seed that moves all cases, estimated from five runs.
        (5, 0.01, 0.005),
    ],
)
def test_intervals_over_seeds_cover(runs: int, seeds: float, noise: float) -> None:
    # 1000 benchmarks; the standard error of a share near .95 is .007.
    rng, hits = np.random.default_rng(1), 0
    for number in range(1000):
        found = estimate_seeds(
            system(rng, runs=runs, seeds=seeds, cases=0.01, noise=noise),
            STRICT,
            resampling=Resampling(resamples=500, seed=number),
        )
        hits += gme_of(found).low <= 0.5 <= gme_of(found).high
    assert 0.93 <= hits / 1000 <= 0.97


def test_deltas_over_seeds_cover_and_their_false_alarms_are_rare() -> None:
    rng, hits, alarms = np.random.default_rng(2), 0, 0
    for number in range(1000):
        common = rng.normal(size=CASES) * 0.08
        base, candidate = (system(rng, runs=3, seeds=0, cases=0, noise=0.01, common=common) for _ in range(2))
        found = gme_of(compare_seeds(base, candidate, STRICT, resampling=Resampling(resamples=500, seed=number)))
        hits += found.low <= 0 <= found.high
        alarms += found.p <= 0.05
    assert 0.93 <= hits / 1000 <= 0.97 and 0.03 <= alarms / 1000 <= 0.07


def test_a_seed_that_moves_everything_widens_the_interval() -> None:
    quiet, loud = (system(np.random.default_rng(3), runs=4, seeds=s, cases=0.01, noise=0.002) for s in (0, 0.03))
    widths = []
    for runs in (quiet, loud):
        row = gme_of(estimate_seeds(runs, STRICT))
        assert row.low < row.value < row.high
        widths.append(row.high - row.low)
    assert widths[1] > 2 * widths[0]


def test_the_same_run_twice_is_one_run() -> None:
    (run,) = system(np.random.default_rng(4), runs=1, seeds=0, cases=0.01, noise=0.01)
    twice, once = (gme_of(rows) for rows in (estimate_seeds([run, run], STRICT), estimate_run(run, STRICT)))
    assert (twice.value, twice.low, twice.high) == pytest.approx((once.value, once.low, once.high), abs=1e-12)
    for row in compare_seeds([run, run, run], [run, run, run], STRICT):
        assert (row.delta, row.low, row.high, row.p) == (0, 0, 0, 1)


def test_swapping_the_systems_flips_the_delta() -> None:
    rng = np.random.default_rng(5)
    first, second = (system(rng, runs=n, seeds=0.01, cases=0.01, noise=0.01) for n in (2, 3))
    there, back = (gme_of(compare_seeds(*pair, STRICT)) for pair in ((first, second), (second, first)))
    assert there.delta == pytest.approx(-back.delta) and there.p == pytest.approx(back.p)
    assert there.detectable == pytest.approx(back.detectable)


def judged_again(rng: np.random.Generator, runs: int, drift: float = 0.0) -> NoiseFloor:
    common = np.zeros(CASES)
    return gme_of(noise_floor(system(rng, runs=runs, seeds=drift, cases=0, noise=0.01, common=common), STRICT))


def test_two_further_runs_stay_within_the_floor_in_95_of_100() -> None:
    # 2000 repetitions: the standard error is .005.
    rng, inside, inside_by_case, drift = np.random.default_rng(6), 0, 0, 0
    for _ in range(2000):
        floor = judged_again(rng, 3)
        gap = abs(np.diff(rng.normal(size=2) * 0.01)[0])
        inside, inside_by_case = inside + (gap <= floor.floor), inside_by_case + (gap <= floor.floor_by_case)
        drift += floor.p_drift <= 0.05
    assert 0.935 <= inside / 2000 <= 0.965 and 0.935 <= inside_by_case / 2000 <= 0.965
    assert 0.035 <= drift / 2000 <= 0.065


def test_drift_is_noticed() -> None:
    floor = judged_again(np.random.default_rng(7), 5, drift=0.05)
    assert floor.p_drift < 0.01 and floor.spread > 2 * floor.spread_by_case


def test_what_repeats_exactly_has_no_floor() -> None:
    (run,) = system(np.random.default_rng(8), runs=1, seeds=0, cases=0.01, noise=0)
    for floor in noise_floor([run, run, run], STRICT):
        assert (floor.spread, floor.floor, floor.spread_by_case, floor.floor_by_case) == (0, 0, 0, 0)
        assert floor.p_drift is None and floor.runs == 3


def test_an_undefined_total_has_no_split_and_no_floor() -> None:
    first, second = system(np.random.default_rng(9), runs=2, seeds=0, cases=0.01, noise=0.01)
    second.strict["natural"].values[0] = np.nan
    for rows in (split_variance([first, second], STRICT), noise_floor([first, second], STRICT)):
        undefined = {row.of for row in rows if getattr(row, "noise", getattr(row, "floor", None)) is None}
        assert undefined == {"natural", "total"}
    rows = estimate_seeds([first, second], STRICT)
    assert {row.of for row in rows if row.value is None and row.low is None} == {"natural", "total"}
    assert compare_seeds([first, first], [first, second], STRICT)[-1].p is None


def test_a_p_value_is_never_0() -> None:
    def run(labels: list[str], gme: FloatArray) -> CaseScores:
        return scores_of(labels, {m: gme if m == "gme" else np.full(len(gme), 0.5) for m in METRICS})

    alone = [f"c{i}" for i in range(8)]
    low, high = (run(alone, np.full(8, value)) for value in (0.25, 0.5))
    row = gme_of(compare_seeds([low, low], [high, high], STRICT))
    assert row.delta == 0.25 and row.p is None and row.p_holm is None, "one case per category: no spread is known"
    labels = [f"c{i // 400}" for i in range(800)]
    small, large = (run(labels, value + 1e-6 * np.arange(800)[::step]) for value, step in ((0.25, 1), (0.5, -1)))
    row = gme_of(compare_seeds([small, small], [large, large], STRICT))
    assert row.p is not None and 0 < row.p < 1e-100


def test_one_run_shows_nothing_of_repeating() -> None:
    runs = system(np.random.default_rng(10), runs=1, seeds=0, cases=0.01, noise=0.01)
    for statistic in (estimate_seeds, split_variance, noise_floor):
        with pytest.raises(BadInput, match="two runs"):
            statistic(runs, STRICT)
