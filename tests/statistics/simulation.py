"""How often intervals cover and tests alarm over a thousand made-up benchmarks: what tests assert and docs state."""

from __future__ import annotations

import numpy as np

from refeval.statistics.comparison import compare_aggregations, draw_weights, interval
from refeval.statistics.power import ALPHA, POWER, detectable_effect
from refeval.statistics.results import Resampling
from refeval.statistics.scores import FloatArray
from refeval.statistics.strata import Strata
from refeval.statistics.testing import holm, permutation_p
from tests.statistics.benchmarks_at_random import Population, shifted

BENCHMARKS = 1000
RESAMPLES = 1000


def coverage_of_values(drawn_from: Population) -> FloatArray:
    """Share of benchmarks whose interval has the true value, float64 (Q,)."""
    truth, strata, rng = drawn_from.runs[0].values(), Strata(drawn_from.labels), np.random.default_rng(1)
    hits = np.zeros(len(truth))
    for number in range(BENCHMARKS):
        resampling = Resampling(resamples=RESAMPLES, seed=number)
        (run,) = drawn_from.draw(rng)
        draws = run.totals(draw_weights(strata, resampling))
        low, high = interval(draws, run.values(), strata.centred(run.influence()), strata.degrees, resampling)
        hits += (low <= truth) & (truth <= high)
    return hits / BENCHMARKS


def coverage_of_deltas(drawn_from: Population) -> FloatArray:
    """Share of benchmarks whose interval has the true delta of two systems, float64 (Q,)."""
    truth = drawn_from.runs[1].values() - drawn_from.runs[0].values()
    strata, rng = Strata(drawn_from.labels), np.random.default_rng(2)
    hits = np.zeros(len(truth))
    for number in range(BENCHMARKS):
        first, second = drawn_from.draw(rng)
        found = compare_aggregations(first, second, strata, Resampling(resamples=RESAMPLES, seed=number))
        hits += [delta.low <= true <= delta.high for delta, true in zip(found, truth, strict=True)]
    return hits / BENCHMARKS


def false_alarms(drawn_from: Population) -> tuple[FloatArray, float]:
    """Share of benchmarks with p <= alpha, float64 (Q,), and with any of the metrics' corrected p <= alpha."""
    rng = np.random.default_rng(3)
    alarms, families = np.zeros(len(drawn_from.runs[0].quantities)), 0
    for number in range(BENCHMARKS):
        p_values = permutation_p(*drawn_from.draw(rng), resamples=RESAMPLES, rng=np.random.default_rng([number, 1]))
        alarms += [p <= ALPHA for p in p_values]
        families += min(holm(p_values[:-1])) <= ALPHA
    return alarms / BENCHMARKS, families / BENCHMARKS


def found_at_detectable_size(drawn_from: Population, metric: str) -> float:
    """Share of benchmarks that find a delta of the mean detectable size, put on top of two systems without one."""
    strata, rng, q = Strata(drawn_from.labels), np.random.default_rng(4), drawn_from.runs[0].quantities.index(metric)
    benchmarks = [drawn_from.draw(rng) for _ in range(BENCHMARKS)]
    influences = [second.influence() - first.influence() for first, second in benchmarks]
    errors = [float(np.sqrt(strata.variance(influence))[q]) for influence in influences]
    effect = float(np.mean([detectable_effect(error, strata.degrees, power=POWER) for error in errors]))
    found = 0
    for number, (first, second) in enumerate(benchmarks):
        better = shifted(second, q, effect)
        p_values = permutation_p(first, better, resamples=RESAMPLES, rng=np.random.default_rng([number, 1]))
        found += p_values[q] <= ALPHA
    return found / BENCHMARKS
