"""Do automatic metrics say what raters say? Pairwise accuracy and Kendall's tau of each metric against the votes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from refeval.protocols import ProtocolName
from refeval.reports.views import RunView, metric_label
from refeval.runs import Run
from refeval.statistics.intervals import percentile_interval
from refeval.statistics.results import Resampling
from refeval.statistics.scores import FloatArray
from refeval.studies.analysis_clusters import case_draws
from refeval.studies.comparisons import Comparison, Question
from refeval.studies.verdicts import pair_of, verdict

WEIGHTED = "weighted mean"
OTHER_RATER = "another rater"
# Metric -> arm -> case -> value, higher is better.
Scores = Mapping[str, Mapping[str, Mapping[str, float]]]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """One metric against the votes of one question.

    Attributes:
        metric: name; :data:`OTHER_RATER` is how often another vote on the same pair of clips says the same.
        accuracy: part of the decisive votes for the arm that the metric puts higher; equal scores count as half.
        accuracy_ends: its interval; None where the votes lie on one case.
        tau: Kendall's tau-b between the metric's difference and the mean vote of a pair of clips; None where one of
            them never differs, and for :data:`OTHER_RATER`.
        tau_ends: its interval.
        votes: decisive ones that ``accuracy`` rests on.
        units: pairs of clips that ``tau`` rests on.
    """

    question: Question
    metric: str
    accuracy: float
    accuracy_ends: tuple[float, float] | None
    tau: float | None
    tau_ends: tuple[float, float] | None
    votes: int
    units: int


@dataclass(frozen=True, kw_only=True, eq=False)
class _Units:
    """Pairs of clips: their cases, first arms, second arms, wins and losses of the first, and mean votes."""

    keys: list[tuple[str, str, str]]
    wins: FloatArray
    losses: FloatArray
    means: FloatArray

    def at(self, kept: list[int]) -> _Units:
        return _Units(
            keys=[self.keys[i] for i in kept],
            wins=self.wins[kept],
            losses=self.losses[kept],
            means=self.means[kept],
        )


def scores_of_runs(runs: Mapping[str, Run], clips: Mapping[str, Mapping[str, str]]) -> Scores:
    """What the runs' records say of the clips that were shown, as the ``strict`` protocol reads them.

    Besides every metric there is :data:`WEIGHTED`: of each case, the mean of its normalised metrics with the weights
    of the TotalScore, among the metrics that all runs have for it.

    Args:
        runs: arm -> run.
        clips: arm -> case -> sha256 of the clip that was shown; scores of another clip are left out.
    """
    views = {arm: RunView(run) for arm, run in runs.items()}
    found: defaultdict[str, dict[str, dict[str, float]]] = defaultdict(lambda: {arm: {} for arm in views})
    for arm, view in views.items():
        for (metric, case), record in view.scores.items():
            if record.strict_value is not None and record.clip_sha256 == clips[arm].get(case):
                found[metric_label(metric)][arm][case] = record.strict_value
    weighted = {arm: dict[str, float]() for arm in views}
    for case in sorted(set.intersection(*(set(clips[arm]) for arm in views))):
        if all(_scored_as_shown(view, case, clips[arm][case]) for arm, view in views.items()):
            for arm, value in _weighted(views, case).items():
                weighted[arm][case] = value
    return {**{metric: found[metric] for metric in sorted(found)}, WEIGHTED: weighted}


def metric_agreement(votes: Sequence[Comparison], scores: Scores, resampling: Resampling) -> tuple[Agreement, ...]:
    """Every question and metric that have a decisive vote in common; the other raters come last.

    Intervals draw cases again (percentiles, widened as Student's t). tau takes every pair of clips both ways round,
    so that which arm is called the first does not matter. Votes count one by one for the accuracy, so that even a
    perfect metric stays below 1 where raters disagree: compare it with :data:`OTHER_RATER`.

    Source: Kendall, The treatment of ties in ranking problems, Biometrika 33 (1945) 239-251.

    Args:
        votes: between arms.
        scores: of the metrics; a case that one of the two arms has no score for is left out for that metric.
        resampling: number of draws, seed, level.
    """
    found = []
    for question in Question:
        units = _units([vote for vote in votes if vote.question is question])
        for metric, by_arm in scores.items():
            kept = [i for i, (case, a, b) in enumerate(units.keys) if case in by_arm[a] and case in by_arm[b]]
            of = units.at(kept)
            if of.wins.sum() + of.losses.sum():
                difference_u = np.array([by_arm[a][case] - by_arm[b][case] for case, a, b in of.keys])
                found.append(_agreement(question, metric, of, difference_u, resampling))
        if others := _other_raters(question, units, resampling):
            found.append(others)
    return tuple(found)


def _agreement(
    question: Question, metric: str, units: _Units, difference_u: FloatArray, resampling: Resampling
) -> Agreement:
    weights_bg, code, degrees = case_draws([key[0] for key in units.keys], resampling)
    ones, drawn = np.ones((1, len(code))), weights_bg[:, code]
    right_u = units.wins * (1 + np.sign(difference_u)) / 2 + units.losses * (1 - np.sign(difference_u)) / 2
    decisive_u = units.wins + units.losses
    draws_bq = np.column_stack([_ratio(right_u, decisive_u, drawn), _tau(difference_u, units.means, drawn)])
    ends = percentile_interval(draws_bq, level=resampling.level, degrees=degrees)
    tau = float(_tau(difference_u, units.means, ones)[0])
    several = weights_bg.shape[1] > 1
    known = not math.isnan(tau)
    return Agreement(
        question=question,
        metric=metric,
        accuracy=float(_ratio(right_u, decisive_u, ones)[0]),
        accuracy_ends=(float(ends[0, 0]), float(ends[1, 0])) if several else None,
        tau=tau if known else None,
        tau_ends=(float(ends[0, 1]), float(ends[1, 1])) if several and known else None,
        votes=int(decisive_u.sum()),
        units=len(units.keys),
    )


def _other_raters(question: Question, units: _Units, resampling: Resampling) -> Agreement | None:
    """Each decisive vote against the other decisive votes on the same pair of clips."""
    units = units.at([i for i in range(len(units.keys)) if units.wins[i] + units.losses[i] >= 2])
    if not units.keys:
        return None
    weights_bg, code, degrees = case_draws([key[0] for key in units.keys], resampling)
    decisive_u = units.wins + units.losses
    right_u = (units.wins * (units.wins - 1) + units.losses * (units.losses - 1)) / (decisive_u - 1)
    draws_b = _ratio(right_u, decisive_u, weights_bg[:, code])
    ends = percentile_interval(draws_b[:, None], level=resampling.level, degrees=degrees)
    return Agreement(
        question=question,
        metric=OTHER_RATER,
        accuracy=float(right_u.sum() / decisive_u.sum()),
        accuracy_ends=(float(ends[0, 0]), float(ends[1, 0])) if weights_bg.shape[1] > 1 else None,
        tau=None,
        tau_ends=None,
        votes=int(decisive_u.sum()),
        units=len(units.keys),
    )


def _units(votes: Sequence[Comparison]) -> _Units:
    verdicts: defaultdict[tuple[str, str, str], list[int]] = defaultdict(list)
    for vote in votes:
        verdicts[(vote.case, *pair_of(vote))].append(verdict(vote))
    keys = sorted(verdicts)
    return _Units(
        keys=keys,
        wins=np.array([verdicts[key].count(1) for key in keys], dtype=np.float64),
        losses=np.array([verdicts[key].count(-1) for key in keys], dtype=np.float64),
        means=np.array([sum(verdicts[key]) / len(verdicts[key]) for key in keys], dtype=np.float64),
    )


def _ratio(part_u: FloatArray, whole_u: FloatArray, weights_bu: FloatArray) -> FloatArray:
    whole_b = weights_bu @ whole_u
    found: FloatArray = (weights_bu @ part_u) / np.where(whole_b > 0, whole_b, np.nan)
    return found


def _tau(x_u: FloatArray, y_u: FloatArray, weights_bu: FloatArray) -> FloatArray:
    """tau-b of the points (x, y) and (-x, -y) when point u counts ``weights_bu[b, u]`` times, float64 (B,)."""

    def signs(z_u: FloatArray) -> tuple[FloatArray, FloatArray]:
        return np.sign(z_u[:, None] - z_u), np.sign(z_u[:, None] + z_u)

    def total(first: tuple[FloatArray, FloatArray], second: tuple[FloatArray, FloatArray]) -> FloatArray:
        product_uu = first[0] * second[0] + first[1] * second[1]
        found: FloatArray = ((weights_bu @ product_uu) * weights_bu).sum(axis=1)
        return found

    x, y = signs(x_u), signs(y_u)
    scale_b = np.sqrt(total(x, x) * total(y, y))
    found: FloatArray = total(x, y) / np.where(scale_b > 0, scale_b, np.nan)
    return found


def _scored_as_shown(view: RunView, case: str, sha256: str) -> bool:
    there = [record for (_, of), record in view.scores.items() if of == case and record.clip_sha256]
    return all(record.clip_sha256 == sha256 for record in there)


def _weighted(views: Mapping[str, RunView], case: str) -> dict[str, float]:
    """Arm -> weighted mean of the metrics that every arm has for the case; empty where there is none."""
    parts = {
        arm: {
            entry.metric: (entry.weight, entry.normalised)
            for entry in view.contributions(ProtocolName.STRICT)[case]
            if entry.normalised is not None
        }
        for arm, view in views.items()
    }
    common = sorted(set.intersection(*(set(part) for part in parts.values())))
    if not common:
        return {}
    weight = math.fsum(next(iter(parts.values()))[metric][0] for metric in common)
    return {arm: math.fsum(part[m][0] * part[m][1] for m in common) / weight for arm, part in parts.items()}
