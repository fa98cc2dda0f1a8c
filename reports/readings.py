"""The runs of a report with their intervals, each computed once for all tables and figures."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from refeval.cases import Category
from refeval.protocols import ProtocolName, Total
from refeval.reports.views import RunView, as_view, run_labels
from refeval.runs import Run
from refeval.statistics.aggregation import Aggregation, aggregate
from refeval.statistics.comparison import estimate_run
from refeval.statistics.results import Estimate, IntervalMethod, Resampling
from refeval.statistics.scores import CaseScores, Reading, from_records

Estimates = Mapping[str, Estimate]
_METHODS = {IntervalMethod.BCA: "BCa", IntervalMethod.PERCENTILE: "percentile"}


@dataclass(frozen=True, kw_only=True, eq=False)
class RunReading:
    """One run: what it recorded, and how sure its means are.

    Attributes:
        label: its name, different from those of the other runs.
        view: what reports read of the folder.
        scores: the same as arrays, one row per case.
        resampling: how intervals are made.
    """

    label: str
    view: RunView
    scores: CaseScores
    resampling: Resampling
    _totals: dict[ProtocolName, Total] = field(default_factory=dict, repr=False)
    _cache: dict[object, Estimates] = field(default_factory=dict, repr=False)

    @property
    def suite(self) -> tuple[str, str]:
        """Name and sha256 of the suite."""
        return str(self.view.manifest.suite["name"]), str(self.view.manifest.suite["sha256"])

    def total(self, protocol: ProtocolName) -> Total:
        """The total under a protocol, and what it rests on."""
        if protocol not in self._totals:
            self._totals[protocol] = self.view.total(protocol)
        return self._totals[protocol]

    def estimates(self, protocol: ProtocolName) -> Estimates:
        """Interval of every metric and of the total, by metric id or ``total``."""
        return self._estimated(protocol, protocol, lambda: self.scores)

    def category_estimates(self, protocol: ProtocolName, category: Category) -> Estimates:
        """The same over the cases of one category."""
        return self._estimated((protocol, category), protocol, lambda: _of_category(self.scores, category))

    def aggregation(self, protocol: ProtocolName) -> Aggregation:
        """Every case's value as a protocol counts it."""
        return aggregate(self.scores, protocol)

    def _estimated(self, key: object, protocol: ProtocolName, scores: Callable[[], CaseScores]) -> Estimates:
        if key not in self._cache:
            found = estimate_run(scores(), protocol, resampling=self.resampling)
            self._cache[key] = {estimate.of: estimate for estimate in found}
        return self._cache[key]


def read_runs(runs: Sequence[Run | RunView], *, resampling: Resampling | None = None) -> tuple[RunReading, ...]:
    """Read run folders, in order; suites may differ, and labels tell apart the runs of one suite."""
    views = [as_view(run) for run in runs]
    labels: dict[RunView, str] = {}
    for sha256 in dict.fromkeys(view.manifest.suite["sha256"] for view in views):
        same = [view for view in views if view.manifest.suite["sha256"] == sha256]
        labels |= dict(zip(same, run_labels(same), strict=True))
    return tuple(
        RunReading(
            label=labels[view],
            view=view,
            scores=from_records(view.suite, view.scores.values()),
            resampling=resampling or Resampling(),
        )
        for view in views
    )


def by_suite(runs: Sequence[RunReading]) -> list[tuple[list[RunReading], str]]:
    """The runs of each suite, and what their files' names end in: nothing where there is one suite."""
    groups: dict[tuple[str, str], list[RunReading]] = {}
    for run in runs:
        groups.setdefault(run.suite, []).append(run)
    if len(groups) == 1:
        return [(list(runs), "")]
    names = [name for name, _ in groups]
    ends = [f"{name}-{sha256[:8]}" if names.count(name) > 1 else name for name, sha256 in groups]
    return [(part, "-" + _file_name(end)) for part, end in zip(groups.values(), ends, strict=True)]


def interval_note(resampling: Resampling) -> str:
    """What a bracket below a value is."""
    method = _METHODS[resampling.method]
    return (
        f"[low, high]: {100 * resampling.level:g} % interval for other cases of the same categories, {method} "
        f"bootstrap through the protocol, {resampling.resamples} resamples, seed {resampling.seed}; "
        "left out where a case has no value, or where the cases show no spread."
    )


def _of_category(scores: CaseScores, category: Category) -> CaseScores:
    rows = np.flatnonzero(np.array(scores.categories) == category.value)

    def cut(readings: Mapping[str, Reading]) -> dict[str, Reading]:
        return {
            metric: Reading(values=reading.values[rows], applicable=reading.applicable[rows])
            for metric, reading in readings.items()
        }

    return replace(
        scores,
        cases=tuple(scores.cases[row] for row in rows),
        categories=tuple(scores.categories[row] for row in rows),
        official=cut(scores.official),
        strict=cut(scores.strict),
    )


def _file_name(text: str) -> str:
    """A text as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "suite"
