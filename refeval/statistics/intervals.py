"""Intervals from bootstrap draws, and of a proportion."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from refeval.errors import BadInput
from refeval.statistics.scores import FloatArray


def quantile_of_t(level: float, degrees: float) -> float:
    """How many standard errors a two-sided interval reaches: Student's t, the normal where ``degrees`` is infinite."""
    upper = (1 + level) / 2
    return float(ndtri(upper) if math.isinf(degrees) else stdtrit(degrees, upper))


def percentile_interval(draws_bq: FloatArray, *, level: float, degrees: float = math.inf) -> FloatArray:
    """Quantiles of the draws, float64 (2, Q): low, high.

    Finite ``degrees`` widen the interval as Student's t widens the normal one: the tails are Phi(-t) instead of
    (1 - level) / 2. Draws that are NaN (undefined resamples) are left out.

    Source: Efron, The jackknife, the bootstrap and other resampling plans, SIAM 1982, chapter 10; widened after
    Hesterberg, What teachers should know about the bootstrap, The American Statistician 69 (2015) 371-386.

    Args:
        draws_bq: float64 (B, Q), one row per resample.
        level: e.g. 0.95.
        degrees: of freedom of the variance.
    """
    reach = quantile_of_t(level, degrees)
    tails = np.tile(ndtr([[-reach], [reach]]), draws_bq.shape[1])
    return _quantiles(draws_bq, tails)


def bca_interval(
    draws_bq: FloatArray,
    values_q: FloatArray,
    centred_nq: FloatArray,
    *,
    level: float,
    degrees: float = math.inf,
) -> FloatArray:
    """Bias-corrected and accelerated interval, float64 (2, Q): low, high.

    With z = -t or t, the quantile taken is Phi(z0 + (z0 + z) / (1 - a (z0 + z))); z0 = Phi^-1(share of draws below
    the value, ties by half), a = sum(l^3) / (6 sum(l^2)^1.5) over the centred influence values l. It moves both ends
    towards the long tail, which percentiles of skewed metrics lack.

    Source: Efron, Better bootstrap confidence intervals, JASA 82 (1987) 171-185; a for strata: Davison and Hinkley,
    Bootstrap Methods and Their Application, Cambridge 1997, section 5.3.

    Args:
        draws_bq: float64 (B, Q), one row per resample; NaN is left out.
        values_q: float64 (Q,), of the data themselves.
        centred_nq: float64 (N, Q), influence values minus their mean in the category.
        level: e.g. 0.95.
        degrees: of freedom; finite ones widen the interval as in :func:`percentile_interval`.
    """
    valid_q = np.maximum(1, (~np.isnan(draws_bq)).sum(axis=0))
    below_q = ((draws_bq < values_q).sum(axis=0) + (draws_bq <= values_q).sum(axis=0)) / (2 * valid_q)
    z0_q = ndtri(np.clip(below_q, 0.5 / valid_q, 1 - 0.5 / valid_q))
    # In units of the largest one: cubes of tiny influences would vanish, and the ratio with them.
    largest_q = np.abs(centred_nq).max(axis=0)
    scaled_nq = np.divide(centred_nq, largest_q, out=np.zeros_like(centred_nq), where=largest_q > 0)
    cubes_q, squares_q = (scaled_nq**3).sum(axis=0), (scaled_nq**2).sum(axis=0)
    skew_q = np.divide(cubes_q, 6 * squares_q**1.5, out=np.zeros_like(cubes_q), where=squares_q > 0)
    reach = quantile_of_t(level, degrees)
    shifted = z0_q + np.array([[-reach], [reach]])
    # Few cases and a long reach can bring the denominator to 0; the quantile is then the outermost draw.
    tails = ndtr(z0_q + shifted / np.maximum(1 - skew_q * shifted, 1e-3))
    return _quantiles(draws_bq, tails)


def wilson_interval(
    successes: float, n: float, *, level: float = 0.95, degrees: float = math.inf
) -> tuple[float, float]:
    """Interval of a proportion, within 0..1 and never of width 0.

    Centre (p + z^2 / 2n) / (1 + z^2 / n), half width z sqrt(p (1 - p) / n + z^2 / 4n^2) / (1 + z^2 / n).
    Assumes independent trials.

    Source: Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927) 209-212.

    Args:
        successes: 0..n; halves are allowed, as for ties.
        n: number of trials, 1 or more; not whole where it is an effective number.
        level: e.g. 0.95.
        degrees: of freedom of an estimated variance, which an effective number rests on; z is then Student's t.

    Raises:
        BadInput: no trials, or successes outside of 0..n.
    """
    if n < 1 or not 0 <= successes <= n:
        raise BadInput(f"{successes:g} successes of {n:g} trials are no proportion")
    z, p = quantile_of_t(level, degrees), successes / n
    scale = 1 + z * z / n
    centre = (p + z * z / (2 * n)) / scale
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / scale
    return (0.0 if successes == 0 else centre - half, 1.0 if successes == n else centre + half)


def _quantiles(draws_bq: FloatArray, tails: FloatArray) -> FloatArray:
    out = np.full(tails.shape, np.nan)
    for q in range(draws_bq.shape[1]):
        draws = draws_bq[:, q]
        draws = draws[~np.isnan(draws)]
        if draws.size:
            out[:, q] = np.quantile(draws, tails[:, q])
    return out
