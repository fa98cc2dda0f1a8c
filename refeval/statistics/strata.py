"""Categories as strata: drawing cases within them, and variances that respect them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from refeval.statistics.scores import BoolArray, FloatArray


class Strata:
    """The categories of the cases of a suite.

    A stratum is what stays as it is when cases are drawn again: every resample has as many cases of each category
    as the suite has.

    Args:
        categories: of each case, in order.
    """

    def __init__(self, categories: Sequence[str]) -> None:
        names, code_n = np.unique(np.array(categories, dtype=np.str_), return_inverse=True)
        self.cases = len(categories)
        self.count = len(names)
        self._members: list[npt.NDArray[np.intp]] = [np.flatnonzero(code_n == k) for k in range(self.count)]

    @property
    def degrees(self) -> int:
        """Degrees of freedom of a stratified variance: cases minus categories of two or more cases, 1 at least."""
        return max(1, sum(len(members) - 1 for members in self._members))

    def draw(self, resamples: int, rng: np.random.Generator) -> FloatArray:
        """Weights of the cases in bootstrap resamples, float64 (B, N).

        Of the n cases of a category, n - 1 are drawn with replacement, and each draw weighs n / (n - 1): the
        weights of a category add up to n. Drawing n instead would give a variance too small by the factor
        (n - 1) / n, which shows in categories of few cases. A category of one case has no spread to show: its
        case always weighs 1, and intervals leave its share of the uncertainty out.

        Source: Rao and Wu, Resampling inference with complex survey data, JASA 83 (1988) 231-241, with
        m = n - 1 draws per stratum.

        Args:
            resamples: B.
            rng: where the draws come from.
        """
        weights_bn = np.ones((resamples, self.cases))
        for members in self._members:
            n = len(members)
            if n == 1:
                continue
            drawn = rng.integers(n, size=(resamples, n - 1)) + n * np.arange(resamples)[:, None]
            counts = np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n)
            weights_bn[:, members] = counts * (n / (n - 1))
        return weights_bn

    def varies(self, counted_nq: FloatArray) -> BoolArray:
        """Whether drawing cases again can move a quantity at all, bool (Q,); if not, its spread is unknown, not 0.

        Args:
            counted_nq: float64 (N, Q) of 0 and 1, which cases are in which mean.
        """
        several = np.zeros(self.cases, dtype=np.bool_)
        for members in self._members:
            several[members] = len(members) > 1
        found: BoolArray = (counted_nq.sum(axis=0) > 1) & (counted_nq[several].sum(axis=0) > 0)
        return found

    def centred(self, influence_nq: FloatArray) -> FloatArray:
        """Influence values minus their mean in the category, float64 (N, Q)."""
        out = np.empty_like(influence_nq)
        for members in self._members:
            out[members] = influence_nq[members] - influence_nq[members].mean(axis=0)
        return out

    def variance(self, influence_nq: FloatArray) -> FloatArray:
        """Sampling variance of quantities from their influence values, float64 (Q,).

        sum over categories of n / (n - 1) * sum of squares of the centred influence values: for a plain mean
        the textbook variance of a stratified mean, for ratios its linearisation.

        Source: Cochran, Sampling Techniques, 3rd edition, Wiley 1977, sections 5.6 and 6.11.
        """
        squares = self.centred(influence_nq) ** 2
        out = np.zeros(influence_nq.shape[1])
        for members in self._members:
            if len(members) > 1:
                out += squares[members].sum(axis=0) * (len(members) / (len(members) - 1))
        return out
