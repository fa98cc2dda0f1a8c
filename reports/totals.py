"""Tables of a run: totals beside published systems, means per category, what became of every case."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from refeval.cases import Category
from refeval.catalogue import METRIC_BY_ID, PUBLISHED_METRICS
from refeval.protocols import MetricTotal, ProtocolName, Total, applies, clamp, enters_mean, slots
from refeval.records import RenderStatus, ScoreStatus
from refeval.reports.cells import DAGGER as DAGGER
from refeval.reports.cells import NO_PART, Cell, Number
from refeval.reports.judge_notes import judge_note
from refeval.reports.published_rows import NO_PART_NOTE, add_published, published_beside
from refeval.reports.readings import RunReading, interval_note, read_runs
from refeval.reports.table import Section, Table, csv_text
from refeval.reports.views import SHOWN_PROTOCOLS, RunView, as_view, metric_label, run_labels
from refeval.runs import Run
from refeval.statistics.aggregation import TOTAL
from refeval.statistics.results import Estimate

_DAGGER_NOTE = (
    f"{DAGGER} Not comparable: not every applicable case has a value. The official formula drops such cases from "
    "the mean and counts a metric without any value as a mean of 0 in its raw unit (Aesthetics then counts as "
    "-133.33)."
)
_ABSENT_NOTE = "absent: the run has no record of this metric."
_UNDEFINED_NOTE = "undefined: the strict protocol gives no mean while an applicable case has no value."
_LOWER_NOTE = "strict totals here are lower bounds: a case without a value counts as the lowest value of its metric."


def totals_table(
    runs: Sequence[Run | RunView],
    *,
    protocols: Sequence[ProtocolName] = SHOWN_PROTOCOLS,
    published: bool = True,
    allow_missing: bool = False,
) -> Table:
    """One row per run and protocol: TotalScore and the seven metrics, normalised, in per cent.

    Args:
        runs: run folders.
        protocols: in the order of the rows.
        published: add the published systems of the same domain, where the suite is one of OpenS2V-Eval and
            opens2v-v1.1 is among the protocols.
        allow_missing: strict totals are lower bounds instead of undefined.

    Returns:
        Below every value stand its interval, where it has one, and ``scored/applicable``; notes explain every mark.
    """
    readings = read_runs(runs)
    views = [reading.view for reading in readings]
    rows, notes = _run_rows(readings, protocols, allow_missing)
    sections: list[Section] = []
    if published and ProtocolName.V1_1 in protocols:
        systems = published_beside(views, notes)
        if systems:
            sections = [Section(first=0, heading="runs")]
            add_published(systems, rows, sections, notes)
    return Table(
        title="Totals in per cent, with intervals and scored/applicable cases",
        columns=("run", "protocol", "TotalScore", *(m.label for m in PUBLISHED_METRICS), "scored"),
        rows=tuple(rows),
        notes=tuple(dict.fromkeys(notes)),
        left=2,
        sections=tuple(sections),
    )


def totals_csv(runs: Sequence[Run | RunView], *, protocols: Sequence[ProtocolName] = SHOWN_PROTOCOLS) -> str:
    """The totals of runs for programs: every digit, normalised to 0..1, counts in columns of their own.

    An undefined value, or one that is no part of the domain's total, is an empty field.
    """
    columns = ["run", "suite", "domain", "protocol", "total", "complete", "scored", "applicable"]
    for metric in PUBLISHED_METRICS:
        columns += [metric.id, *(f"{metric.id}_{count}" for count in ("scored", "applicable", "averaged"))]
    views = [as_view(run) for run in runs]
    rows: list[list[object]] = []
    for view, label in zip(views, run_labels(views), strict=True):
        for protocol in protocols:
            total = view.total(protocol)
            head = [label, view.manifest.suite["name"], total.domain.value, protocol.value]
            rows.append([*head, total.total, total.complete, *coverage(total), *_metric_fields(total)])
    return csv_text(columns, rows)


@dataclass(frozen=True, kw_only=True)
class Mean:
    """One metric over the cases of one category.

    Attributes:
        value: mean of the values that the protocol averages, None where there is none; in per cent of the
            metric's range where ``in_total``, else in the metric's own unit.
        in_total: whether the metric has a weight in the total.
        scored: applicable cases with a value.
        applicable: cases that count.
    """

    value: float | None
    in_total: bool
    scored: int
    applicable: int


def category_means(run: Run | RunView, protocol: ProtocolName) -> dict[Category, dict[str, Mean]]:
    """Mean of every recorded metric over the cases of each category that the suite has."""
    view = as_view(run)
    found: dict[Category, dict[str, Mean]] = {}
    for category in Category:
        ids = [case.id for case in view.suite.cases if case.category is category]
        if ids:
            found[category] = {metric: _category_mean(view, protocol, metric, ids) for metric in view.recorded}
    return found


def category_table(run: Run | RunView, protocol: ProtocolName, *, label: str | None = None) -> Table:
    """:func:`category_means` as a table, one row per category; ``label`` names the run instead of its model."""
    view = as_view(run)
    means = category_means(view, protocol)
    cases = Counter(case.category for case in view.suite.cases)
    weighed = {metric: mean.in_total for row in means.values() for metric, mean in row.items()}
    labels = [metric_label(m) if weighed[m] else f"{metric_label(m)} (raw)" for m in view.recorded]
    rows = tuple(
        (category.value, str(cases[category]), *(mean_text(mean) for mean in row.values()))
        for category, row in means.items()
    )
    notes = ["Mean of the scored cases, in per cent of the metric's range, with scored/applicable cases."]
    if not all(weighed.values()):
        notes.append("raw: the metric is no part of this total; the mean is in its own unit.")
    if absent := [category.value for category in Category if category not in means]:
        notes.append(f"The suite has no case of: {', '.join(absent)}.")
    title = f"Means per category, {label or run_labels([view])[0]}, {protocol}"
    return Table(title=title, columns=("category", "cases", *labels), rows=rows, notes=tuple(notes))


def mean_text(mean: Mean) -> str:
    """``53.06`` over ``12/14``; a dash where no case counts or none has a value."""
    if not mean.applicable:
        return NO_PART
    value = NO_PART if mean.value is None else f"{mean.value:.{2 if mean.in_total else 4}f}"
    return f"{value}\n{mean.scored}/{mean.applicable}"


def status_table(run: Run | RunView, *, label: str | None = None) -> Table:
    """Per metric, how many cases of the suite have which status; every row adds up to the suite."""
    view = as_view(run)
    cases = [case.id for case in view.suite.cases]
    rows = []
    for metric in view.metrics:
        counts = Counter(view.status(metric, case)[0] for case in cases)
        rows.append((metric_label(metric), *(str(counts[status]) for status in ScoreStatus), str(len(cases))))
    clips = Counter(render.status for case in cases if (render := view.renders.get(case)))
    clips[RenderStatus.MISSING] += len(cases) - clips.total()
    notes = [f"Clips: {', '.join(f'{clips[status]} {status}' for status in RenderStatus)} of {len(cases)}."]
    if absent := [metric_label(metric) for metric in view.metrics if metric not in view.recorded]:
        notes.append(f"No record at all: {', '.join(absent)}.")
    columns = ("metric", *(status.value for status in ScoreStatus), "cases")
    title = f"Status of every case, {label or run_labels([view])[0]}"
    return Table(title=title, columns=columns, rows=tuple(rows), notes=tuple(notes))


def _run_rows(
    readings: Sequence[RunReading], protocols: Sequence[ProtocolName], allow_missing: bool
) -> tuple[list[tuple[str, ...]], list[str]]:
    rows: list[tuple[str, ...]] = []
    notes: list[str] = []
    views = [reading.view for reading in readings]
    for reading, view, label in zip(readings, views, run_labels(views), strict=True):
        for protocol in protocols:
            total = view.total(protocol, allow_missing=allow_missing)
            # Lower bounds are no estimates: they move with what is missing, not with the cases.
            sure = {} if allow_missing else reading.estimates(protocol)
            metrics = {metric.metric: metric for metric in total.metrics}
            cells = [Cell(metric_number(view, metrics.get(m), notes, sure.get(m))) for m in METRIC_BY_ID]
            scored, applicable = coverage(total)
            whole = Cell(total_number(total, notes, sure.get(TOTAL)))
            rows.append((label, protocol.value, whole, *cells, f"{scored}/{applicable}"))
            if any(isinstance(cell, Cell) and cell.number.low is not None for cell in (whole, *cells)):
                notes.append(interval_note(reading.resampling))
            notes += zeros_notes(label, total)
            if allow_missing and protocol is ProtocolName.STRICT and not total.complete:
                notes.append(_LOWER_NOTE)
        if note := judge_note(view, label):
            notes.append(note)
    return rows, notes


def total_number(total: Total, notes: list[str], estimate: Estimate | None = None) -> Number:
    """A total in per cent, without counts.

    Args:
        total: of a run.
        notes: gets a sentence for every mark and word.
        estimate: of the same total; its interval is shown only where the total may be compared.
    """
    if total.meaningless:
        notes.append(f"{DAGGER} {total.meaningless[0].upper()}{total.meaningless[1:]}.")
    if total.total is None:
        notes.append(_UNDEFINED_NOTE)
        return Number(value=None, word="undefined", comparable=False)
    if total.complete or (total.protocol is ProtocolName.STRICT and not total.meaningless):
        return with_interval(Number(value=100 * total.total, comparable=total.complete), estimate)
    if not total.meaningless:
        notes.append(_DAGGER_NOTE)
    return Number(value=100 * total.total, mark=DAGGER, comparable=False)


def metric_number(
    view: RunView, metric: MetricTotal | None, notes: list[str], estimate: Estimate | None = None
) -> Number:
    """The mean of one metric in per cent of its range, with scored and applicable cases; arguments as for totals.

    ``metric`` is None where it is no part of the domain's total.
    """
    if metric is None:
        notes.append(NO_PART_NOTE)
        return Number(value=None, comparable=False)
    counts = Number(value=None, scored=metric.scored, applicable=metric.applicable, comparable=False)
    if metric.metric not in view.recorded:
        notes.append(_ABSENT_NOTE)
        return replace(counts, word="absent")
    if metric.normalised is None:
        notes.append(_UNDEFINED_NOTE)
        return replace(counts, word="undefined")
    whole = metric.scored == metric.applicable > 0
    number = replace(counts, value=100 * metric.normalised, comparable=whole)
    return with_interval(number, estimate) if whole else number


def with_interval(number: Number, estimate: Estimate | None) -> Number:
    """The number with its interval in per cent, where there is one."""
    # Without spread (one case in each category, say) the interval would be a point, and read as certainty.
    if estimate is None or estimate.low is None or estimate.high is None or estimate.low == estimate.high:
        return number
    return replace(number, low=100 * estimate.low, high=100 * estimate.high)


def zeros_notes(label: str, total: Total) -> list[str]:
    """A sentence for every metric whose official mean leaves zeros out."""
    if total.protocol is ProtocolName.STRICT:
        return []
    return [
        f"{label}, {total.protocol}: {metric.label} is the mean over {metric.averaged} of {metric.scored} scored "
        "cases; the official formula leaves zeros out."
        for metric in total.metrics
        if metric.averaged != metric.scored
    ]


def coverage(total: Total) -> tuple[int, int]:
    """Scored and applicable cases, summed over the metrics."""
    return sum(m.scored for m in total.metrics), sum(m.applicable for m in total.metrics)


def _metric_fields(total: Total) -> list[object]:
    metrics = {metric.metric: metric for metric in total.metrics}
    fields: list[object] = []
    for known in METRIC_BY_ID:
        metric = metrics.get(known)
        row = (metric.normalised, metric.scored, metric.applicable, metric.averaged) if metric else [None] * 4
        fields += row
    return fields


def _category_mean(view: RunView, protocol: ProtocolName, metric: str, ids: Sequence[str]) -> Mean:
    slot = next((slot for slot in slots(protocol, view.suite.domain) if slot.metric == metric), None)
    if slot is None:
        return _raw_mean(view, protocol, metric, ids)
    strict = protocol is ProtocolName.STRICT
    applicable = set(applies(protocol, metric, view.suite)) & set(ids)
    records = [record for case in ids if case in applicable and (record := view.scores.get((metric, case)))]
    found = [record.strict_value if strict else record.value for record in records]
    values = [value for value in found if value is not None]
    counted = [slot.normalise(clamp(slot, value, strict)) for value in values if enters_mean(slot, value, strict)]
    return Mean(
        value=100 * math.fsum(counted) / len(counted) if counted else None,
        in_total=True,
        scored=len(values),
        applicable=len(applicable),
    )


def _raw_mean(view: RunView, protocol: ProtocolName, metric: str, ids: Sequence[str]) -> Mean:
    records = [record for case in ids if (record := view.scores.get((metric, case)))]
    found = [record.strict_value if protocol is ProtocolName.STRICT else record.value for record in records]
    values = [value for value in found if value is not None]
    return Mean(
        value=math.fsum(values) / len(values) if values else None,
        in_total=False,
        scored=len(values),
        applicable=sum(view.status(metric, case)[0] is not ScoreStatus.NOT_APPLICABLE for case in ids),
    )
