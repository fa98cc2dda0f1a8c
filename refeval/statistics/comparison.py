"""One run with its intervals, and two runs of the same cases with the interval and the p-value of their difference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refeval.protocols import ProtocolName
from refeval.statistics.aggregation import Aggregation, aggregate
from refeval.statistics.intervals import bca_interval, percentile_interval
from refeval.statistics.power import detectable_effect
from refeval.statistics.results import Delta, Estimate, IntervalMethod, Resampling
from refeval.statistics.scores import CaseScores, FloatArray, require_same_cases
from refeval.statistics.strata import Strata
from refeval.statistics.testing import holm, permutation_p

# Bootstrap, permutation and seeds draw from streams of their own: one more of one does not move the other.
BOOTSTRAP_STREAM, PERMUTATION_STREAM, SEED_STREAM = 0, 1, 2
_DEFAULT = Resampling()


def estimate_run(
    scores: CaseScores, protocol: ProtocolName, *, allow_missing: bool = False, resampling: Resampling = _DEFAULT
) -> tuple[Estimate, ...]:
    """Every metric of the total, then the total, with intervals.

    Cases are drawn again within their categories and pushed through the whole protocol: clamps, the cases that
    leave a mean, normalisation, weights. Assumes that the cases of a category are like a random sample of the cases
    one means to speak of, and that the shares of the categories are given.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, Chapman and Hall 1993; draws as in
    :meth:`refeval.statistics.strata.Strata.draw`, intervals as in :mod:`refeval.statistics.intervals`.

    Args:
        scores: of the run.
        protocol: how they become a total.
        allow_missing: as in :func:`refeval.protocols.run_total`.
        resampling: number of draws, seed, level, method.
    """
    run, strata = aggregate(scores, protocol, allow_missing=allow_missing), Strata(scores.categories)
    draws_bq = run.totals(draw_weights(strata, resampling))
    ends = interval(draws_bq, run.values(), strata.centred(run.influence()), strata.degrees, resampling)
    ends[:, ~strata.varies(run.counted())] = np.nan
    return estimates(run.quantities, run.values(), ends, run.counted().sum(axis=0), resampling)


def compare_runs(
    base: CaseScores,
    candidate: CaseScores,
    protocol: ProtocolName,
    *,
    allow_missing: bool = False,
    resampling: Resampling = _DEFAULT,
) -> tuple[Delta, ...]:
    """The difference of two runs, candidate minus base: every metric of the total, then the total.

    Both runs are pushed through the protocol with the same drawn cases, so what makes a case hard for both cancels.
    Each run follows the protocol on its own: a case that has left the mean of one run still counts in the other's,
    as it does in the two totals that are subtracted. Interval and p-value answer different questions and can
    disagree near the edge; a decision rests on the p-value.

    Args:
        base: scores of the run compared with.
        candidate: scores of the run in question, of the same cases.
        protocol: how they become a total.
        allow_missing: as in :func:`refeval.protocols.run_total`.
        resampling: number of draws, seed, level, method.

    Raises:
        BadInput: runs of different cases or domains.
    """
    require_same_cases([base, candidate])
    strata = Strata(base.categories)
    first, second = (aggregate(scores, protocol, allow_missing=allow_missing) for scores in (base, candidate))
    return compare_aggregations(first, second, strata, resampling)


def compare_aggregations(
    base: Aggregation, candidate: Aggregation, strata: Strata, resampling: Resampling
) -> tuple[Delta, ...]:
    """As :func:`compare_runs`, of two runs of the same cases that a protocol has already read."""
    weights_bn = draw_weights(strata, resampling)
    deltas_q = candidate.values() - base.values()
    influence_nq = candidate.influence() - base.influence()
    draws_bq = candidate.totals(weights_bn) - base.totals(weights_bn)
    ends = interval(draws_bq, deltas_q, strata.centred(influence_nq), strata.degrees, resampling)
    rng = np.random.default_rng([resampling.seed, PERMUTATION_STREAM])
    p_values = permutation_p(base, candidate, resamples=resampling.resamples, rng=rng)
    effects_q = [detectable_effect(error, strata.degrees) for error in np.sqrt(strata.variance(influence_nq))]
    counted_rnq = np.array([run.counted() for run in (base, candidate)])
    varies_q = strata.varies(counted_rnq.max(axis=0))
    ends[:, ~varies_q], effects = np.nan, np.where(varies_q, effects_q, np.nan)
    tested_q = base.scored | candidate.scored
    p_values = [p if tested else None for p, tested in zip(p_values, tested_q, strict=True)]
    pairs = counted_rnq.min(axis=0).sum(axis=0)
    return deltas(base.quantities, base.values(), candidate.values(), ends, p_values, pairs, effects, resampling)


def draw_weights(strata: Strata, resampling: Resampling) -> FloatArray:
    """Weights of the cases in every resample, float64 (B, N): the same for whatever is compared on them."""
    return strata.draw(resampling.resamples, np.random.default_rng([resampling.seed, BOOTSTRAP_STREAM]))


def interval(
    draws_bq: FloatArray,
    values_q: FloatArray,
    centred_nq: FloatArray,
    degrees: float,
    resampling: Resampling,
) -> FloatArray:
    """Ends of the intervals by the method asked for, float64 (2, Q)."""
    if resampling.method is IntervalMethod.PERCENTILE:
        return percentile_interval(draws_bq, level=resampling.level, degrees=degrees)
    return bca_interval(draws_bq, values_q, centred_nq, level=resampling.level, degrees=degrees)


def estimates(
    quantities: Sequence[str],
    values_q: FloatArray,
    ends: FloatArray,
    counts_q: FloatArray,
    resampling: Resampling,
) -> tuple[Estimate, ...]:
    """Rows from arrays: NaN becomes None, and that of a value takes the interval with it."""
    found = []
    for of, value, low, high, n in zip(quantities, values_q, ends[0], ends[1], counts_q, strict=True):
        known = not np.isnan(value)
        found.append(
            Estimate(
                of=of,
                value=float(value) if known else None,
                low=_number(low) if known else None,
                high=_number(high) if known else None,
                level=resampling.level,
                n=int(n),
                resampling=resampling,
            )
        )
    return tuple(found)


def deltas(
    quantities: Sequence[str],
    base_q: FloatArray,
    candidate_q: FloatArray,
    ends: FloatArray,
    p_values: Sequence[float | None],
    pairs_q: FloatArray,
    effects: Sequence[float] | FloatArray,
    resampling: Resampling,
) -> tuple[Delta, ...]:
    """Rows from arrays: NaN becomes None; Holm over the metrics that have a p-value, the total apart."""
    corrected = [*holm(p_values[:-1]), p_values[-1]]
    found = []
    for q, of in enumerate(quantities):
        known = not (np.isnan(base_q[q]) or np.isnan(candidate_q[q]))
        found.append(
            Delta(
                of=of,
                base=_number(base_q[q]),
                candidate=_number(candidate_q[q]),
                delta=float(candidate_q[q] - base_q[q]) if known else None,
                low=_number(ends[0, q]) if known else None,
                high=_number(ends[1, q]) if known else None,
                level=resampling.level,
                p=p_values[q],
                p_holm=corrected[q],
                n_pairs=int(pairs_q[q]),
                detectable=_number(effects[q]) if known else None,
                resampling=resampling,
            )
        )
    return tuple(found)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
