"""Totals: from the records of a run to one number, under each of three protocols. Pure functions.

Source: OpenS2V-Nexus eval/merge_result.py at 210eb08 (v1.1) and at the parent of 8cb7427 (v1.0) for the two
official protocols, defects included. Differs: sums do not depend on the order of the cases, so the last bits
may differ; what the official code leaves out of a mean in silence is counted and named.
``strict`` is this project's own: same weights, no case drops out of a mean.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from refeval.applicability import official_applies, strict_applies
from refeval.cases import Domain, Suite, select_cases
from refeval.catalogue import METRIC_BY_ID
from refeval.errors import BadInput
from refeval.records import RANDOM_WEIGHTS, ScoreRecord, ScoreStatus


class ProtocolName(StrEnum):
    """How scores become a total."""

    V1_0 = "opens2v-v1.0"
    V1_1 = "opens2v-v1.1"
    STRICT = "strict"


# Metric id -> weight in the open and single domain, weight in the human domain.
_WEIGHTS_V1_1 = {
    "aesthetics": (0.16, 0.18),
    "motion_smoothness": (0.06, 0.09),
    "motion_amplitude": (0.02, 0.03),
    "facesim": (0.20, 0.25),
    "gme": (0.12, 0.15),
    "nexus": (0.20, 0.0),
    "natural": (0.24, 0.30),
}
_WEIGHTS_V1_0 = {
    **_WEIGHTS_V1_1,
    "aesthetics": (0.12, 0.15),
    "motion_smoothness": (0.0, 0.0),
    "motion_amplitude": (0.12, 0.15),
}
# v1.0 has one motion column, which holds the amplitude.
_MOTION_V1_0 = {"label": "Motion", "total_key": "motion_score"}
_RANGES = {"aesthetics": (4.0, 7.0), "nexus": (0.0, 0.05), "natural": (1.0, 5.0)}
_LOST = {
    ScoreStatus.NOT_APPLICABLE: "called not applicable, against the suite",
    ScoreStatus.MISSING: "missing",
    ScoreStatus.FAILED: "failed",
    ScoreStatus.UNPARSEABLE: "unparseable",
}


@dataclass(frozen=True, kw_only=True)
class Slot:
    """The place of one metric in a total.

    Attributes:
        metric: id.
        label: name as published.
        total_key: key in the official result.
        weight: 0..1; the weights of a protocol and domain add up to 1.
        low: raw value that becomes 0.
        high: raw value that becomes 1; what lies above counts as this.
    """

    metric: str
    label: str
    total_key: str
    weight: float
    low: float
    high: float

    def normalise(self, raw: float) -> float:
        """From raw units to 0..1 (outside of it only where a protocol does not clamp)."""
        return (raw - self.low) / (self.high - self.low)


@dataclass(frozen=True, kw_only=True)
class MetricTotal(Slot):
    """One metric over all cases.

    Attributes:
        mean: of the clamped values, raw unit; None where the protocol leaves it undefined.
        normalised: the mean in 0..1, higher is better.
        averaged: how many cases the mean rests on.
        scored: how many applicable cases have a value.
        applicable: how many cases the suite counts.
        statuses: applicable cases by status; they add up to ``applicable``.
    """

    mean: float | None
    normalised: float | None
    averaged: int
    scored: int
    applicable: int
    statuses: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Total:
    """The total of a run and what it rests on.

    Attributes:
        total: weighted sum of the normalised means, higher is better; None where undefined.
        metrics: in the order of the official result.
        problems: what is not as it should be, in plain words.
        complete: every applicable case of every metric is scored, and there is at least one.
        meaningless: why the number says nothing, or None: scores of random weights are among its own.
    """

    protocol: ProtocolName
    domain: Domain
    total: float | None
    metrics: tuple[MetricTotal, ...]
    problems: tuple[str, ...]
    complete: bool
    meaningless: str | None = None

    def as_json(self) -> dict[str, Any]:
        """``total_score`` and the keys of the official result (normalised), with the counts beside them."""
        return {
            "protocol": str(self.protocol),
            "domain": str(self.domain),
            "total_score": self.total,
            **{metric.total_key: metric.normalised for metric in self.metrics},
            "counts": {metric.total_key: _counts(metric) for metric in self.metrics},
            "complete": self.complete,
            "problems": list(self.problems),
        }


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """What one case adds to a total through one metric.

    Attributes:
        status: of the case under this metric; ``not_applicable`` where the suite does not count it.
        reason: why there is no value, or why the value is not in the mean.
        raw: the value that the protocol reads.
        clamped: after the protocol's limits, raw unit.
        normalised: ``clamped`` in 0..1.
        weight: of the metric.
        share: of the total: weight * normalised / cases in the mean; None without a value in a mean.
    """

    metric: str
    label: str
    status: ScoreStatus
    reason: str | None
    raw: float | None
    clamped: float | None
    normalised: float | None
    weight: float
    share: float | None


def slots(protocol: ProtocolName, domain: Domain) -> tuple[Slot, ...]:
    """The metrics that enter a total, with weights and ranges, in the order of the official result."""
    old, strict = protocol == ProtocolName.V1_0, protocol == ProtocolName.STRICT
    found = []
    for metric, weights in (_WEIGHTS_V1_0 if old else _WEIGHTS_V1_1).items():
        weight = weights[1] if domain == Domain.HUMAN else weights[0]
        if not weight:
            continue
        info = METRIC_BY_ID[metric]
        names = {"label": info.label, "total_key": info.total_key}
        if old and metric == "motion_amplitude":
            names = _MOTION_V1_0
        low, high = (0.0, 1.0) if strict and metric == "nexus" else _RANGES.get(metric, (0.0, 1.0))
        found.append(Slot(metric=metric, weight=weight, low=low, high=high, **names))
    return tuple(found)


def applies(protocol: ProtocolName, metric: str, suite: Suite) -> list[str]:
    """Ids of the cases that count for a metric, in suite order."""
    rule = strict_applies if protocol == ProtocolName.STRICT else official_applies
    return [case.id for case in suite.cases if rule(metric, case)]


def official_total(
    values: Mapping[str, Mapping[str, float]],
    *,
    protocol: ProtocolName,
    domain: Domain,
    applicable: Mapping[str, int],
) -> Total:
    """The official total, with its defects: absent cases and Nexus zeros leave the mean, an empty mean is 0.

    Args:
        values: metric id -> case id -> raw number; NaN and infinities as the official code treats them.
        protocol: one of the two official ones.
        domain: selects the weights.
        applicable: metric id -> cases that should have a value; the rest is counted as missing.

    Raises:
        BadInput: ``protocol`` is ``strict``.
    """
    if protocol == ProtocolName.STRICT:
        raise BadInput("official scores carry no strict total", cure="use --protocol opens2v-v1.1 or opens2v-v1.0")
    metrics = []
    for slot in slots(protocol, domain):
        scores = values.get(slot.metric, {})
        missing = max(0, applicable.get(slot.metric, 0) - len(scores))
        statuses = _ordered({ScoreStatus.SCORED: len(scores), ScoreStatus.MISSING: missing})
        metrics.append(_official_metric(slot, list(scores.values()), statuses))
    return _total(metrics, protocol, domain)


def run_total(
    suite: Suite,
    records: Iterable[ScoreRecord],
    *,
    protocol: ProtocolName,
    domain: Domain | None = None,
    allow_missing: bool = False,
) -> Total:
    """The total of a run; the order of the records does not matter.

    Args:
        suite: decides which cases count for which metric.
        records: at most one per metric and case; metrics that no protocol knows are passed over.
        protocol: the official ones read ``value`` of the scored records, ``strict`` reads ``strict_value``.
        domain: weights of another domain than the suite's.
        allow_missing: ``strict`` only: a case without a value counts as the low end of the range instead of
            making the total undefined. The total is then a lower bound: deleting records cannot raise it.

    Raises:
        BadInput: a record of a case that the suite does not have, or two of the same metric and case.
    """
    domain = domain or suite.domain
    table = records_by_metric_and_case(suite, records)
    metrics = []
    for slot in slots(protocol, domain):
        found = [table.get((slot.metric, case)) for case in applies(protocol, slot.metric, suite)]
        statuses = _ordered(Counter(record.status if record else ScoreStatus.MISSING for record in found))
        values = [value for value in (_value(record, protocol) for record in found) if value is not None]
        if protocol == ProtocolName.STRICT:
            metrics.append(_strict_metric(slot, values, statuses, allow_missing))
        else:
            metrics.append(_official_metric(slot, values, statuses))
    total = _total(metrics, protocol, domain)
    random = sorted({METRIC_BY_ID[r.metric].label for r in table.values() if r.details.get(RANDOM_WEIGHTS)})
    if random:
        reason = f"scored with small random weights, which mean nothing: {', '.join(random)}"
        total = replace(total, problems=(reason, *total.problems), complete=False, meaningless=reason)
    return total


def total_from_columns(columns: Mapping[str, float], *, protocol: ProtocolName, domain: Domain) -> float:
    """The weighted sum of published columns.

    Args:
        columns: metric id -> normalised mean, in fractions or per cent; the result has the same unit.
        protocol: selects the weights.
        domain: selects the weights.

    Raises:
        BadInput: a column that the total needs is absent.
    """
    wanted = slots(protocol, domain)
    absent = [slot.metric for slot in wanted if slot.metric not in columns]
    if absent:
        raise BadInput(f"no column '{absent[0]}': {protocol} needs it for the {domain} domain")
    return _sum([slot.weight * columns[slot.metric] for slot in wanted])


def case_contributions(
    suite: Suite,
    records: Iterable[ScoreRecord],
    case_id: str,
    *,
    protocol: ProtocolName,
    domain: Domain | None = None,
    allow_missing: bool = False,
) -> tuple[Contribution, ...]:
    """What one case adds to the total, metric by metric; arguments and errors as :func:`run_total`.

    Where every metric has a case in its mean, the shares of all cases add up to the total.

    Raises:
        BadInput: also for a case that the suite does not have.
    """
    select_cases(suite, [case_id])
    table = records_by_metric_and_case(suite, records)
    total = run_total(suite, table.values(), protocol=protocol, domain=domain, allow_missing=allow_missing)
    found = []
    for metric in total.metrics:
        record = table.get((metric.metric, case_id))
        status, reason = (record.status, record.reason) if record else (ScoreStatus.MISSING, "no record")
        if case_id not in applies(protocol, metric.metric, suite):
            record, status, reason = None, ScoreStatus.NOT_APPLICABLE, "not counted by the protocol"
        found.append(_contribution(metric, _value(record, protocol), protocol, status, reason))
    return tuple(found)


def _contribution(
    metric: MetricTotal, raw: float | None, protocol: ProtocolName, status: ScoreStatus, reason: str | None
) -> Contribution:
    strict = protocol == ProtocolName.STRICT
    clamped = normalised = share = None
    if raw is not None:
        clamped = clamp(metric, raw, strict)
        normalised = metric.normalise(clamped)
        if not enters_mean(metric, raw, strict):
            reason = "the official code leaves zeros out of the mean"
        elif metric.averaged:
            share = metric.weight * normalised / metric.averaged
    return Contribution(
        metric=metric.metric,
        label=metric.label,
        status=status,
        reason=reason,
        raw=raw,
        clamped=clamped,
        normalised=normalised,
        weight=metric.weight,
        share=share,
    )


def records_by_metric_and_case(suite: Suite, records: Iterable[ScoreRecord]) -> dict[tuple[str, str], ScoreRecord]:
    """The records of published metrics by (metric, case).

    Raises:
        BadInput: as :func:`run_total`.
    """
    cases = {case.id for case in suite.cases}
    table: dict[tuple[str, str], ScoreRecord] = {}
    for record in records:
        if record.metric not in METRIC_BY_ID:
            continue
        if record.case not in cases:
            raise BadInput(f"a record of case '{record.case}', which suite {suite.name} does not have")
        key = (record.metric, record.case)
        if key in table:
            raise BadInput(f"two records of metric '{record.metric}' and case '{record.case}'")
        table[key] = record
    return table


def _value(record: ScoreRecord | None, protocol: ProtocolName) -> float | None:
    if record is None:
        return None
    return record.strict_value if protocol == ProtocolName.STRICT else record.value


def clamp(slot: Slot, value: float, strict: bool) -> float:
    """A value within the limits of its metric, raw unit; the official ones leave most metrics open below."""
    # The order of the arguments is the official one: with NaN first, min and max return NaN.
    if strict or slot.metric in {"aesthetics", "natural"}:
        return max(min(value, slot.high), slot.low)
    if slot.metric in {"motion_smoothness", "motion_amplitude"}:
        return min(abs(value), slot.high)
    return min(value, slot.high)


def enters_mean(slot: Slot, value: float, strict: bool) -> bool:
    """Whether a value counts in the mean: the official protocols leave out a NexusScore of 0."""
    return strict or slot.metric != "nexus" or value != 0


def _official_metric(slot: Slot, values: Sequence[float], statuses: dict[str, int]) -> MetricTotal:
    kept = [clamp(slot, value, False) for value in values if enters_mean(slot, value, False)]
    mean = _sum(kept) / len(kept) if kept else 0.0
    return _metric_total(slot, mean, len(kept), len(values), statuses)


def _strict_metric(slot: Slot, values: Sequence[float], statuses: dict[str, int], allow_missing: bool) -> MetricTotal:
    applicable = sum(statuses.values())
    lost = applicable - len(values)
    if not allow_missing and (lost or not applicable):
        return _metric_total(slot, None, 0, len(values), statuses)
    counted = [clamp(slot, value, True) for value in values] + [slot.low] * lost
    mean = _sum(counted) / applicable if applicable else slot.low
    return _metric_total(slot, mean, applicable, len(values), statuses)


def _metric_total(slot: Slot, mean: float | None, averaged: int, scored: int, statuses: dict[str, int]) -> MetricTotal:
    return MetricTotal(
        **asdict(slot),
        mean=mean,
        normalised=None if mean is None else slot.normalise(mean),
        averaged=averaged,
        scored=scored,
        applicable=sum(statuses.values()),
        statuses=statuses,
    )


def _total(metrics: Sequence[MetricTotal], protocol: ProtocolName, domain: Domain) -> Total:
    parts = [metric.weight * metric.normalised for metric in metrics if metric.normalised is not None]
    whole = all(metric.scored == metric.applicable for metric in metrics)
    return Total(
        protocol=protocol,
        domain=domain,
        total=_sum(parts) if len(parts) == len(metrics) else None,
        metrics=tuple(metrics),
        problems=tuple(problem for metric in metrics for problem in _problems(metric)),
        complete=whole and any(metric.scored for metric in metrics),
    )


def _problems(metric: MetricTotal) -> list[str]:
    found = [
        f"{metric.label}: {metric.statuses[status]} of {metric.applicable} cases {words}"
        for status, words in _LOST.items()
        if status in metric.statuses
    ]
    if not metric.applicable:
        found.append(f"{metric.label}: no applicable case")
    if metric.mean is not None and not math.isfinite(metric.mean):
        found.append(f"{metric.label}: the mean is not a finite number")
    return found


def _counts(metric: MetricTotal) -> dict[str, int]:
    first = {"scored": metric.scored, "applicable": metric.applicable, "averaged": metric.averaged}
    return {**metric.statuses, **first}


def _ordered(counts: Mapping[ScoreStatus, int]) -> dict[str, int]:
    return {status.value: counts[status] for status in ScoreStatus if counts.get(status)}


def _sum(values: Sequence[float]) -> float:
    """Correctly rounded, so in any order the same; where fsum refuses (inf - inf, overflow), plain IEEE."""
    try:
        return math.fsum(values)
    except (ValueError, OverflowError):
        return sum(sorted(values))
