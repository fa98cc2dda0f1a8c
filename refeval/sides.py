"""The runs of one side as statistics and protocols see them, and what single categories and cases add to a delta."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from refeval.baselines import Baseline
from refeval.cases import Category, Domain
from refeval.protocols import ProtocolName, Total, run_total
from refeval.records import ScoreStatus
from refeval.statistics import TOTAL, Aggregation, CaseScores, aggregate, from_records
from refeval.statistics.scores import FloatArray


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Applicable cases with a value, over all runs of a side."""

    scored: int
    applicable: int

    def __str__(self) -> str:
        return f"{self.scored}/{self.applicable}"


@dataclass(frozen=True, kw_only=True)
class CategoryDelta:
    """One metric over the cases of one category.

    Attributes:
        base: mean of the cases in the mean, normalised; None where there is none.
        candidate: likewise.
        n_base: cases in the mean, over all runs.
        n_candidate: likewise.
    """

    category: str
    metric: str
    base: float | None
    candidate: float | None
    n_base: int
    n_candidate: int

    @property
    def delta(self) -> float | None:
        """Candidate - base, normalised."""
        return None if self.base is None or self.candidate is None else self.candidate - self.base


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What one case takes from the total through one metric.

    Attributes:
        share: of the total, below 0: what the case adds to the candidate's total less what it adds to the base's.
        base: value in the metric's own unit, mean over the seeds; or the status of the case.
        candidate: likewise.
    """

    case: str
    metric: str
    share: float
    base: float | ScoreStatus
    candidate: float | ScoreStatus


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredSide:
    """The runs of one side.

    Attributes:
        runs: one per seed.
        scores: of each run.
        totals: of each run, as the protocol gives them without any allowance.
        aggregations: of each run.
    """

    runs: tuple[Baseline, ...]
    scores: tuple[CaseScores, ...]
    totals: tuple[Total, ...]
    aggregations: tuple[Aggregation, ...]

    @classmethod
    def read(
        cls, runs: Sequence[Baseline], protocol: ProtocolName, domain: Domain, *, allow_missing: bool
    ) -> ScoredSide:
        """Read the runs by a protocol."""
        scores = tuple(from_records(run.parsed_suite, run.records, domain=domain) for run in runs)
        return cls(
            runs=tuple(runs),
            scores=scores,
            totals=tuple(run_total(run.parsed_suite, run.records, protocol=protocol, domain=domain) for run in runs),
            aggregations=tuple(aggregate(run, protocol, allow_missing=allow_missing) for run in scores),
        )

    def coverage(self, of: str) -> Coverage:
        """Of a metric, or of all for ``total``."""
        found = [metric for total in self.totals for metric in total.metrics if of in (metric.metric, TOTAL)]
        return Coverage(scored=sum(m.scored for m in found), applicable=sum(m.applicable for m in found))

    def shares(self) -> FloatArray:
        """What each case adds to the total through each metric, mean over the runs, float64 (N, M)."""
        return np.asarray(np.mean([_shares(run) for run in self.aggregations], axis=0))

    def value(self, metric: str, n: int, protocol: ProtocolName) -> float | ScoreStatus:
        """The value of a case in the metric's own unit, mean over the seeds that have one; else its status."""
        values = [run.read_by(protocol)[metric].values[n] for run in self.scores]
        found = [float(value) for value in values if not np.isnan(value)]
        if found:
            return sum(found) / len(found)
        entry = self.runs[0].scores.get(metric, {}).get(self.scores[0].cases[n], ScoreStatus.MISSING)
        return entry if isinstance(entry, ScoreStatus) else ScoreStatus.NOT_APPLICABLE


def category_deltas(base: ScoredSide, candidate: ScoredSide) -> tuple[CategoryDelta, ...]:
    """Every metric over the cases of every category that the suite has."""
    categories = np.array(base.scores[0].categories)
    found = []
    for category in Category:
        members = np.flatnonzero(categories == category.value)
        for m, slot in enumerate(base.aggregations[0].slots if len(members) else ()):
            (first, n_first), (second, n_second) = (_mean(side, members, m) for side in (base, candidate))
            found.append(
                CategoryDelta(
                    category=category.value,
                    metric=slot.metric,
                    base=first,
                    candidate=second,
                    n_base=n_first,
                    n_candidate=n_second,
                )
            )
    return tuple(found)


def _mean(side: ScoredSide, members: npt.NDArray[np.intp], m: int) -> tuple[float | None, int]:
    """Normalised mean of some cases, mean over the runs that have any, and how many values are behind it."""
    slot = side.aggregations[0].slots[m]
    counts = [int(run.mask_nm[members, m].sum()) for run in side.aggregations]
    sums = [float(run.x_nm[members, m].sum()) for run in side.aggregations]
    means = [slot.normalise(total / count) for total, count in zip(sums, counts, strict=True) if count]
    return (sum(means) / len(means) if means else None), sum(counts)


def case_losses(base: ScoredSide, candidate: ScoredSide) -> tuple[Loss, ...]:
    """Every case and metric that takes from the total, the largest loss first."""
    shares_nm = candidate.shares() - base.shares()
    protocol = base.totals[0].protocol
    order = sorted((float(share), n, m) for (n, m), share in np.ndenumerate(shares_nm) if share < 0)
    losses = []
    for share, n, m in order:
        metric = base.aggregations[0].slots[m].metric
        losses.append(
            Loss(
                case=base.scores[0].cases[n],
                metric=metric,
                share=share,
                base=base.value(metric, n, protocol),
                candidate=candidate.value(metric, n, protocol),
            )
        )
    return tuple(losses)


def _shares(run: Aggregation) -> FloatArray:
    low_m, high_m, weight_m = (
        np.array([getattr(slot, name) for slot in run.slots]) for name in ("low", "high", "weight")
    )
    counts_m = np.maximum(run.mask_nm.sum(axis=0), 1)
    return np.asarray(weight_m * (run.x_nm - low_m * run.mask_nm) / (high_m - low_m) / counts_m)
