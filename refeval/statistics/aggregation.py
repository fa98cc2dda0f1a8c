"""A protocol in vectorised form: from how often each case counts to the metrics and the TotalScore.

``refeval.protocols`` decides what a case's value is and whether it is in the mean; here every mean is a ratio of
two sums over cases, (w @ x) / (w @ mask), so that thousands of resamples are two matrix products. The
last letters of a name are its axes: n cases, m metrics, b resamples, q = m + 1 quantities (the metrics, then the
TotalScore), r runs; docstrings give shapes in capitals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refeval.protocols import ProtocolName, Slot, clamp, enters_mean, slots
from refeval.statistics.scores import BoolArray, CaseScores, FloatArray

TOTAL = "total"


@dataclass(frozen=True, kw_only=True, eq=False)
class Aggregation:
    """The values of one run as a protocol counts them.

    Attributes:
        slots: the metrics of the total, with weights and ranges.
        x_nm: clamped values in raw units; 0 where ``mask_nm`` is 0.
        mask_nm: 1 where the case is in the mean of the metric, else 0.
        lost_nm: 1 where the case leaves the mean undefined, else 0 (``strict``).
        empty_m: the mean of a metric that no case is left for, raw unit; NaN: undefined.
        scored: bool (Q,), whether any case has a value, be it in the mean or not; of the total: of any metric.
    """

    slots: tuple[Slot, ...]
    x_nm: FloatArray
    mask_nm: FloatArray
    lost_nm: FloatArray
    empty_m: FloatArray
    scored: BoolArray

    @property
    def quantities(self) -> tuple[str, ...]:
        """The metric ids, then ``total``."""
        return (*(slot.metric for slot in self.slots), TOTAL)

    def totals(self, weights_bn: FloatArray) -> FloatArray:
        """Every quantity when case n counts ``weights_bn[b, n]`` times: what ``run_total`` gives for that suite.

        Args:
            weights_bn: float64 (B, N), 0 or more; whole numbers are numbers of copies.

        Returns:
            float64 (B, Q), normalised: fractions of the metric's range; NaN where the protocol leaves it undefined.
        """
        sums_bm, counts_bm = weights_bn @ self.x_nm, weights_bn @ self.mask_nm
        return self.from_sums(sums_bm, counts_bm, weights_bn @ self.lost_nm)

    def from_sums(self, sums_bm: FloatArray, counts_bm: FloatArray, lost_bm: FloatArray) -> FloatArray:
        """As :meth:`totals`, from the weighted sums of ``x_nm``, ``mask_nm`` and ``lost_nm``."""
        means_bm = np.divide(
            sums_bm, counts_bm, out=np.broadcast_to(self.empty_m, sums_bm.shape).copy(), where=counts_bm > 0
        )
        means_bm[lost_bm > 0] = np.nan
        low_m, high_m, weight_m = self._limits()
        normalised_bm = (means_bm - low_m) / (high_m - low_m)
        return np.column_stack([normalised_bm, normalised_bm @ weight_m])

    def values(self) -> FloatArray:
        """Every quantity of the run itself, float64 (Q,)."""
        return np.asarray(self.totals(np.ones((1, len(self.x_nm))))[0])

    def influence(self, around: tuple[FloatArray, FloatArray] | None = None) -> FloatArray:
        """What each case adds to every quantity, to first order, float64 (N, Q): the derivative of :meth:`totals`
        by the weight of the case, at weights of 1.

        For a mean over a fixed set of cases it is (x - mean) / cases; it adds up to 0 over the cases. Variances are
        estimated from these rows: see :meth:`refeval.statistics.strata.Strata.variance`.

        Source: Davison and Hinkley, Bootstrap Methods and Their Application, Cambridge 1997, section 2.7.2
        (empirical influence values).

        Args:
            around: means in raw units and numbers of cases, both (M,), to deviate from: those of several runs,
                whose rows then add up to how far each run is from their mean. By default the run's own.
        """
        means_m, counts_m = around or pool([self])
        low_m, high_m, weight_m = self._limits()
        deviations_nm = (self.x_nm - means_m * self.mask_nm) / (counts_m * (high_m - low_m))
        return np.column_stack([deviations_nm, deviations_nm @ weight_m])

    def counted(self) -> FloatArray:
        """Which cases are in which mean, float64 (N, Q) of 0 and 1; in the total: in any of its means."""
        return np.column_stack([self.mask_nm, self.mask_nm.max(axis=1)])

    def _limits(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        rows = np.array([(slot.low, slot.high, slot.weight) for slot in self.slots], dtype=np.float64)
        return rows[:, 0], rows[:, 1], rows[:, 2]


def aggregate(scores: CaseScores, protocol: ProtocolName, *, allow_missing: bool = False) -> Aggregation:
    """The scores of a run as a protocol counts them.

    Args:
        scores: of the run.
        protocol: whose clamps, ranges, weights and rules of survivorship apply.
        allow_missing: ``strict`` only, as in :func:`refeval.protocols.run_total`: a case without a value counts as
            the low end of the range instead of making the quantity undefined.
    """
    strict = protocol is ProtocolName.STRICT
    found = slots(protocol, scores.domain)
    shape = (len(scores.cases), len(found))
    x_nm, mask_nm, lost_nm = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    scored_m = np.zeros(len(found), dtype=np.bool_)
    for m, slot in enumerate(found):
        reading = scores.read_by(protocol)[slot.metric]
        for n in np.flatnonzero(reading.applicable):
            value = float(reading.values[n])
            if not np.isnan(value):
                scored_m[m] = True
                if enters_mean(slot, value, strict):
                    x_nm[n, m], mask_nm[n, m] = clamp(slot, value, strict), 1
            elif strict and allow_missing:
                x_nm[n, m], mask_nm[n, m] = slot.low, 1
            elif strict:
                lost_nm[n, m] = 1
    empty = [(slot.low if allow_missing else np.nan) if strict else 0.0 for slot in found]
    return Aggregation(
        slots=found,
        x_nm=x_nm,
        mask_nm=mask_nm,
        lost_nm=lost_nm,
        empty_m=np.array(empty),
        scored=np.append(scored_m, scored_m.any()),
    )


def pool(runs: Sequence[Aggregation]) -> tuple[FloatArray, FloatArray]:
    """Mean of every metric over all runs, raw unit, and mean number of cases in it (1 at least): float64 (M,)."""
    sums_m = np.sum([run.x_nm.sum(axis=0) for run in runs], axis=0)
    counts_m = np.sum([run.mask_nm.sum(axis=0) for run in runs], axis=0)
    return sums_m / np.maximum(counts_m, 1), np.maximum(counts_m / len(runs), 1)
