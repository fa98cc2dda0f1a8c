"""Tests of no difference: swapping the two runs case by case, and Holm's correction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from refeval.statistics.aggregation import Aggregation
from refeval.statistics.scores import BoolArray, FloatArray

# With so many differing cases or fewer, every assignment is looked at: 2**13 is about as many as the default draws.
_EXACT_UP_TO = 13
# Sums of the same numbers in another order differ by some 1e-16: such ties count as ties.
_TIE = 1e-12


def permutation_p(
    base: Aggregation, candidate: Aggregation, *, resamples: int, rng: np.random.Generator
) -> list[float | None]:
    """Two-sided p-values of the deltas, one per quantity.

    Each case's two records are swapped between the runs, or not, and the protocol is run again; the swap keeps the
    case, so it stays within its category. p = (1 + draws with |delta| >= the one observed) / (1 + draws); where at
    most 13 cases differ, all 2^k assignments are looked at and p is their share, exactly.

    Assumes under the null hypothesis that the two records of a case are exchangeable: the systems are alike in
    every respect, not only in their means. For means over fixed cases it is the sign-flip test.

    Source: Pitman, Significance tests which may be applied to samples from any populations, JRSS Supplement 4 (1937);
    the + 1: Phipson and Smyth, Permutation p-values should never be zero, SAGMB 9 (2010) article 39.

    Args:
        base: one run.
        candidate: the other, of the same cases under the same protocol.
        resamples: number of random assignments.
        rng: where they come from.

    Returns:
        p in (0, 1]; None where a delta is undefined.
    """
    observed_q = candidate.values() - base.values()
    signs_bn: FloatArray = rng.choice(np.array([-1.0, 1.0]), size=(resamples, len(base.x_nm)))
    drawn_bq = _deltas(base, candidate, signs_bn)
    differs_nq = _differing(base, candidate)
    found: list[float | None] = []
    for q, observed in enumerate(observed_q):
        rows = np.flatnonzero(differs_nq[:, q])
        if np.isnan(observed):
            found.append(None)
        elif len(rows) <= _EXACT_UP_TO:
            found.append(float(np.mean(_extreme(_deltas(base, candidate, _all_signs(rows, base))[:, q], observed))))
        else:
            found.append(float((1 + np.sum(_extreme(drawn_bq[:, q], observed))) / (1 + resamples)))
    return found


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction: the chance of any false alarm among all is at most that of one uncorrected.

    Sorted p(1) <= ... <= p(m): the i-th becomes the largest of (m - j + 1) p(j) over j <= i, at most 1. Assumes
    nothing about how the tests depend on each other. None stays None and does not count.

    Source: Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statistics 6 (1979) 65-70.
    """
    order = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        corrected[i] = largest
    return corrected


def _deltas(base: Aggregation, candidate: Aggregation, signs_bn: FloatArray) -> FloatArray:
    """Deltas when the records of the cases of sign -1 are swapped, float64 (B, Q)."""

    def halves(first_nm: FloatArray, second_nm: FloatArray) -> tuple[FloatArray, FloatArray]:
        both, apart = (second_nm + first_nm).sum(axis=0), signs_bn @ (second_nm - first_nm)
        return (both - apart) / 2, (both + apart) / 2

    base_x, candidate_x = halves(base.x_nm, candidate.x_nm)
    base_counts, candidate_counts = halves(base.mask_nm, candidate.mask_nm)
    base_lost, candidate_lost = halves(base.lost_nm, candidate.lost_nm)
    return candidate.from_sums(candidate_x, candidate_counts, candidate_lost) - base.from_sums(
        base_x, base_counts, base_lost
    )


def _differing(base: Aggregation, candidate: Aggregation) -> BoolArray:
    """Which cases differ in which quantity: swapping any other changes nothing."""
    differs_nm = (base.x_nm != candidate.x_nm) | (base.mask_nm != candidate.mask_nm)
    return np.column_stack([differs_nm, differs_nm.any(axis=1)])


def _all_signs(rows: npt.NDArray[np.intp], base: Aggregation) -> FloatArray:
    signs = np.ones((2 ** len(rows), len(base.x_nm)))
    bits = np.arange(2 ** len(rows))[:, None] >> np.arange(len(rows)) & 1
    signs[:, rows] = 1.0 - 2.0 * bits
    return signs


def _extreme(deltas: FloatArray, observed: float) -> BoolArray:
    return np.asarray(np.abs(deltas) >= abs(observed) - _TIE)
