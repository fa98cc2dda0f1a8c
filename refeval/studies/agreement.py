"""How far raters agree with each other: Krippendorff's alpha for names without an order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refeval.statistics.intervals import percentile_interval
from refeval.statistics.results import Resampling
from refeval.statistics.scores import FloatArray
from refeval.studies.analysis_clusters import case_draws
from refeval.studies.comparisons import Comparison
from refeval.studies.verdicts import pair_of, verdict


@dataclass(frozen=True, kw_only=True)
class Alpha:
    """Krippendorff's alpha: 1 is full agreement, 0 that of answers drawn by lot, below 0 is disagreement.

    Attributes:
        value: None where it is undefined: no unit with two votes, or only one verdict in all of them.
        low: lower end of the interval; None without one.
        high: upper end.
        units: pairs of clips with two votes or more; the others say nothing.
        votes: on those units.
        level: of the interval.
    """

    value: float | None
    low: float | None
    high: float | None
    units: int
    votes: int
    level: float


def krippendorff_alpha(votes: Sequence[Comparison], resampling: Resampling) -> Alpha:
    """Agreement of the votes of one question on which of two arms is better, or neither.

    alpha = 1 - observed / expected disagreement. A unit is a case and a pair of arms; its verdicts are first arm,
    second arm, or tie. Raters need not have seen the same units. The interval draws cases again (percentiles,
    widened as Student's t).

    Source: Krippendorff, Content Analysis, 4th edition, Sage 2019, chapter 12, nominal data.

    Args:
        votes: of one question, between arms.
        resampling: number of draws, seed, level.
    """
    units = sorted({(vote.case, *pair_of(vote)) for vote in votes})
    place = {unit: i for i, unit in enumerate(units)}
    counts_uk = np.zeros((len(units), 3))
    for vote in votes:
        counts_uk[place[(vote.case, *pair_of(vote))], 1 + verdict(vote)] += 1
    paired = counts_uk.sum(axis=1) >= 2
    counts_uk = counts_uk[paired]
    if not len(counts_uk):
        return Alpha(value=None, low=None, high=None, units=0, votes=0, level=resampling.level)
    weights_bg, code, degrees = case_draws([u[0] for u, kept in zip(units, paired, strict=True) if kept], resampling)
    value = float(_alpha(counts_uk, np.ones((1, len(counts_uk))))[0])
    ends = percentile_interval(_alpha(counts_uk, weights_bg[:, code])[:, None], level=resampling.level, degrees=degrees)
    known = not np.isnan(value)
    sure = known and weights_bg.shape[1] > 1
    return Alpha(
        value=value if known else None,
        low=float(ends[0, 0]) if sure else None,
        high=float(ends[1, 0]) if sure else None,
        units=len(counts_uk),
        votes=int(counts_uk.sum()),
        level=resampling.level,
    )


def _alpha(counts_uk: FloatArray, weights_bu: FloatArray) -> FloatArray:
    """Alpha when unit u counts ``weights_bu[b, u]`` times, float64 (B,); NaN where undefined."""
    size_u = counts_uk.sum(axis=1)
    differing_u = (size_u**2 - (counts_uk**2).sum(axis=1)) / (size_u - 1)
    votes_b, totals_bk = weights_bu @ size_u, weights_bu @ counts_uk
    observed_b = weights_bu @ differing_u / np.where(votes_b > 0, votes_b, np.nan)
    pairs_b = votes_b * (votes_b - 1)
    expected_b = (votes_b**2 - (totals_bk**2).sum(axis=1)) / np.where(pairs_b > 0, pairs_b, np.nan)
    found: FloatArray = 1 - observed_b / np.where(expected_b > 1e-12, expected_b, np.nan)
    return found
