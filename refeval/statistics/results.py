"""What the statistics give back."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class IntervalMethod(StrEnum):
    """How the ends of an interval are read from the draws."""

    BCA = "bca"
    PERCENTILE = "percentile"


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """How an interval or a p-value is made; kept with every result.

    Attributes:
        resamples: number of draws, of the bootstrap and of the permutation test.
        seed: of the draws; the same seed gives the same result.
        level: of the interval.
        method: of the interval; docs/statistics.md has the measured coverage behind the default.
    """

    resamples: int = 10_000
    seed: int = 0
    level: float = 0.95
    method: IntervalMethod = IntervalMethod.BCA


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value and how far other cases of the same kind could move it.

    Attributes:
        of: metric id, or ``total``.
        value: normalised (a fraction of the metric's range), higher is better; None where the protocol leaves
            it undefined, and the interval with it.
        low: lower end of the interval; None also where nothing is known of the spread: no category with a case in the
            mean has two cases, or the mean has only one.
        high: upper end.
        level: of the interval.
        n: cases in the mean; for the total, cases in any of its means.
        resampling: how it was made.
    """

    of: str
    value: float | None
    low: float | None
    high: float | None
    level: float
    n: int
    resampling: Resampling = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Delta:
    """The difference of two runs, candidate minus base.

    Attributes:
        of: metric id, or ``total``.
        base: value of the base, normalised; None where undefined, and all that follows from it.
        candidate: value of the candidate.
        delta: candidate - base.
        low: lower end of the interval of ``delta``; None also where the spread is not known, see :class:`Estimate`.
        high: upper end.
        level: of the interval.
        p: two-sided, above 0; None also where neither run has a value for any case, and for several seeds where the
            spread is 0 or not known.
        p_holm: corrected for the number of metrics that have a ``p``; the total is a question of its own, so its ``p``.
        n_pairs: cases that are in the mean of both runs.
        detectable: the true delta that such a pair of runs shows with power .80 at alpha .05 (not corrected);
            None where ``low`` is.
        resampling: how it was made.
    """

    of: str
    base: float | None
    candidate: float | None
    delta: float | None
    low: float | None
    high: float | None
    level: float
    p: float | None
    p_holm: float | None
    n_pairs: int
    detectable: float | None
    resampling: Resampling = field(repr=False)
