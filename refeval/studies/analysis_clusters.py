"""How far other cases and other raters could move a number: a bootstrap of two crossed kinds of clusters.

Votes on one case agree more than votes on two, and so do votes of one rater. Letters in names: V votes, G clusters,
B resamples, Q quantities.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from refeval.statistics.intervals import quantile_of_t, wilson_interval
from refeval.statistics.results import Resampling
from refeval.statistics.scores import FloatArray
from refeval.statistics.strata import Strata
from refeval.studies.comparisons import Comparison

# Weights of one kind of cluster that are held at once: 128 MiB.
_MOST_WEIGHTS = 2**24


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A part of the votes, 0 to 1, with two intervals.

    Attributes:
        value: the rate.
        n: votes that it is taken over.
        wilson: as if votes were independent.
        clustered: allowing for votes that are alike within cases and raters; never narrower than votes that are
            independent would make it.
        level: of both.
    """

    value: float
    n: int
    wilson: tuple[float, float]
    clustered: tuple[float, float]
    level: float


class Clusters:
    """The cases and raters of some votes.

    Args:
        votes: V of them, one or more.
        resampling: number of draws, seed, level.
    """

    def __init__(self, votes: Sequence[Comparison], resampling: Resampling) -> None:
        self.resampling = resampling
        self._codes = [
            _codes([vote.case for vote in votes]),
            _codes([vote.rater for vote in votes]),
            _codes([f"{vote.case}\n{vote.rater}" for vote in votes]),
        ]
        self._kept: dict[int, FloatArray] = {}
        self.cases, self.raters = (int(code.max()) + 1 for code in self._codes[:2])

    @property
    def degrees(self) -> int:
        """Degrees of freedom: one less than the cases, or than the raters where those are fewer; 1 at least.

        A study of one rater (or one case) says nothing of others; its interval is for that rater (case) alone.
        """
        return min([count - 1 for count in (self.cases, self.raters) if count > 1], default=1)

    def errors(self, influence_VQ: FloatArray) -> FloatArray:  # noqa: N803 - shape suffix
        """Standard errors over draws of cases and of raters, float64 (Q,).

        Variance = V(cases) + V(raters) - V(cases x raters), each from a bootstrap of that kind of cluster: the votes
        of one rater on one case would otherwise be counted twice. It is taken as no smaller than the last, which is
        what votes that are independent would have.
        Drawing cases and raters together and multiplying their weights, the other common way, gives up to three
        times the variance where votes are nearly independent, that is intervals up to 1.7 times as wide.

        In each draw a quantity moves by the sum of weight times influence of the votes: for a rate that is its
        change to first order, for a fitted model one Newton step from the estimate. Unlike a new fit per draw, this
        has a value also where an arm happens to lose every drawn vote.

        Source: Cameron, Gelbach and Miller, Robust inference with multiway clustering, JBES 29 (2011) 238-249; the
        draws: Kline and Santos, A score based approach to wild bootstrap inference, J. Econometric Methods 1 (2012),
        with the weights of :meth:`refeval.statistics.strata.Strata.draw`; why not products of weights: Owen, The
        pigeonhole bootstrap, Annals of Applied Statistics 1 (2007) 386-411.

        Args:
            influence_VQ: float64 (V, Q), how far a quantity moves with the weight of a vote; adds up to 0.
        """
        cases, raters, both = (self._variance(stream, influence_VQ) for stream in range(3))
        found: FloatArray = np.sqrt(np.maximum(cases + raters - both, both))
        return found

    def half_width(self, error: float, *, tests: int = 1) -> float:
        """Half the width of an interval around a value of this standard error, by Student's t.

        Args:
            error: standard error.
            tests: intervals that are to hold all at once (Bonferroni).
        """
        level = 1 - (1 - self.resampling.level) / tests
        return float(quantile_of_t(level, self.degrees) * error)

    def rate(self, hits_V: FloatArray, counted_V: FloatArray | None = None) -> Rate | None:  # noqa: N803
        """Part of hits among the counted votes; None where none is counted.

        The clustered interval is Wilson's with the number of independent votes that would be as exact, and Student's
        t instead of the normal quantile.

        Source: Franco, Little, Louis and Slud, Comparative study of confidence intervals for proportions in complex
        sample surveys, J. Survey Statistics and Methodology 7 (2019) 334-364.

        Args:
            hits_V: float64 (V,), 0 to 1; 1/2 for a tie that counts for both.
            counted_V: float64 (V,) of 0 and 1; by default all count.
        """
        counted = np.ones(len(hits_V)) if counted_V is None else counted_V
        n = int(counted.sum())
        if n == 0:
            return None
        value = float(np.clip(hits_V @ counted / n, 0, 1))
        influence = (hits_V - value) * counted / n
        level, degrees = self.resampling.level, self.degrees
        variance = max(float(self.errors(influence[:, None])[0]) ** 2, float(influence @ influence))
        effective = max(1.0, value * (1 - value) / variance) if variance > 0 else float(n)
        return Rate(
            value=value,
            n=n,
            wilson=wilson_interval(min(value * n, n), n, level=level),
            clustered=wilson_interval(min(value * effective, effective), effective, level=level, degrees=degrees),
            level=level,
        )

    def _variance(self, stream: int, influence_VQ: FloatArray) -> FloatArray:  # noqa: N803 - shape suffix
        code_v = self._codes[stream]
        sums_gq = np.zeros((int(code_v.max()) + 1, influence_VQ.shape[1]))
        np.add.at(sums_gq, code_v, influence_VQ)
        variance: FloatArray = np.concatenate([weights @ sums_gq for weights in self._weights(stream)]).var(axis=0)
        return variance

    def _weights(self, stream: int) -> Iterator[FloatArray]:
        """Weights of the clusters, float64 (some of B, G) at a time; kept where all of them are small enough."""
        if stream in self._kept:
            yield self._kept[stream]
            return
        count = int(self._codes[stream].max()) + 1
        strata = Strata([""] * count)
        rng = np.random.default_rng([self.resampling.seed, stream])
        left, most = self.resampling.resamples, max(1, _MOST_WEIGHTS // count)
        if left <= most:
            self._kept[stream] = strata.draw(left, rng)
            yield self._kept[stream]
            return
        while left:
            size = min(left, most)
            yield strata.draw(size, rng)
            left -= size


def case_draws(cases: Sequence[str], resampling: Resampling) -> tuple[FloatArray, npt.NDArray[np.intp], float]:
    """Draws of cases alone, for numbers that are no sums over votes.

    Args:
        cases: of each unit.
        resampling: number of draws and seed.

    Returns:
        Weights float64 (B, number of cases); the place of each unit's case in them; degrees of freedom.
    """
    code = _codes(cases)
    strata = Strata([""] * (int(code.max()) + 1))
    weights = strata.draw(resampling.resamples, np.random.default_rng([resampling.seed, 0]))
    return weights, code, float(strata.degrees) if strata.cases > 1 else math.inf


def _codes(names: Sequence[str]) -> npt.NDArray[np.intp]:
    return np.unique(np.array(names, dtype=np.str_), return_inverse=True)[1]
