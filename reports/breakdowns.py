"""Where a total comes from: runs by category, one model over the suites, one run under several protocols."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from refeval.cases import Domain
from refeval.catalogue import METRIC_BY_ID
from refeval.protocols import ProtocolName
from refeval.reports.cells import BEST_NOTE, Cell, Number, mark_best
from refeval.reports.readings import Estimates, RunReading, interval_note
from refeval.reports.table import ColumnGroup, Section, Table
from refeval.reports.totals import (
    Mean,
    category_means,
    coverage,
    metric_number,
    total_number,
    with_interval,
    zeros_notes,
)
from refeval.reports.views import SHOWN_PROTOCOLS, metric_label
from refeval.statistics.aggregation import TOTAL

_COUNTS_NOTE = "Below each value: scored/applicable cases."
QUANTITIES = (TOTAL, *METRIC_BY_ID)


def quantity_number(
    run: RunReading, protocol: ProtocolName, of: str, notes: list[str] | None = None, *, interval: bool = True
) -> Number:
    """The total or one metric of a run in per cent, with interval and counts.

    Args:
        run: of any suite.
        protocol: how scores become a total.
        of: metric id or ``total``.
        notes: gets a sentence for every mark and word.
        interval: compute it.
    """
    notes = [] if notes is None else notes
    total = run.total(protocol)
    estimate = run.estimates(protocol).get(of) if interval else None
    if of == TOTAL:
        scored, applicable = coverage(total)
        return replace(total_number(total, notes, estimate), scored=scored, applicable=applicable)
    metric = next((metric for metric in total.metrics if metric.metric == of), None)
    return metric_number(run.view, metric, notes, estimate)


def categories_table(runs: Sequence[RunReading], protocol: ProtocolName) -> Table:
    """Mean of every metric over the cases of each category, one section per category, one row per run.

    Args:
        runs: of one suite.
        protocol: whose values and ranges apply.
    """
    metrics = list(dict.fromkeys(metric for run in runs for metric in run.view.recorded))
    means = [category_means(run.view, protocol) for run in runs]
    sizes = Counter(case.category for case in runs[0].view.suite.cases)
    rows: list[tuple[str, ...]] = []
    sections: list[Section] = []
    for category in means[0] if means else ():
        sections.append(Section(first=len(rows), heading=f"{category}, {sizes[category]} cases"))
        for run, found in zip(runs, means, strict=True):
            estimates = run.category_estimates(protocol, category)
            numbers = [_mean_number(found[category].get(metric), estimates, metric) for metric in metrics]
            rows.append((run.label, *map(Cell, numbers)))
    raw = {m for found in means for row in found.values() for m, mean in row.items() if not mean.in_total}
    notes = ["In per cent of the metric's range, mean over the cases with a value.", _COUNTS_NOTE, BEST_NOTE]
    if raw:
        notes.append("raw: the metric is no part of this total; the mean is in its own unit.")
    return Table(
        title=f"Means per category, {runs[0].suite[0]}, {protocol}",
        columns=("run", *(f"{metric_label(m)} (raw)" if m in raw else metric_label(m) for m in metrics)),
        rows=mark_best(rows, [section.first for section in sections]),
        notes=(*notes, interval_note(runs[0].resampling)),
        sections=tuple(sections),
    )


def domains_table(runs: Sequence[RunReading]) -> Table | None:
    """The runs of one model on several suites side by side, under each protocol; None where no model has two.

    Of several runs of a model on one suite the first is shown; a note names the others.
    """
    by_model: dict[str, dict[Domain, list[RunReading]]] = {}
    for run in runs:
        by_model.setdefault(run.view.manifest.model, {}).setdefault(run.view.manifest.domain, []).append(run)
    shown = {model: found for model, found in by_model.items() if len(found) > 1}
    if not shown:
        return None
    domains = [domain for domain in Domain if any(domain in found for found in shown.values())]
    notes: list[str] = []
    rows: list[tuple[str, ...]] = []
    sections: list[Section] = []
    for model, found in shown.items():
        sections.append(Section(first=len(rows), heading=model))
        for of in QUANTITIES:
            numbers = [
                quantity_number(found[domain][0], protocol, of, notes)
                if domain in found
                else Number(value=None, word="no run")
                for protocol in SHOWN_PROTOCOLS
                for domain in domains
            ]
            rows.append((quantity_label(of), *map(Cell, numbers)))
    notes += [_unshown_note(same) for found in shown.values() for same in found.values() if same[1:]]
    return Table(
        title="One model over the domains, in per cent",
        columns=("metric", *(domain.value for _ in SHOWN_PROTOCOLS for domain in domains)),
        rows=tuple(rows),
        notes=(*dict.fromkeys(notes), _COUNTS_NOTE, interval_note(runs[0].resampling)),
        sections=tuple(sections),
        groups=_protocol_groups(1, len(domains)),
    )


def protocols_table(runs: Sequence[RunReading]) -> Table:
    """Every run under the official and the strict protocol, and what the choice of protocol moves."""
    notes: list[str] = []
    rows: list[tuple[str, ...]] = []
    sections: list[Section] = []
    for run in runs:
        sections.append(Section(first=len(rows), heading=run.label))
        read = [[quantity_number(run, protocol, of, notes) for of in QUANTITIES] for protocol in SHOWN_PROTOCOLS]
        rows += [(p.value, *map(Cell, numbers)) for p, numbers in zip(SHOWN_PROTOCOLS, read, strict=True)]
        rows.append(("difference", *(Cell(_difference(*pair)) for pair in zip(*read, strict=True))))
        for protocol in SHOWN_PROTOCOLS:
            notes += zeros_notes(run.label, run.total(protocol))
    notes += [
        "difference: strict minus official, in points; the protocols differ in cases, values and ranges "
        "(docs/protocols.md), so it is no error of either.",
        _COUNTS_NOTE,
    ]
    return Table(
        title=f"Protocols side by side, {runs[0].suite[0]}, in per cent",
        columns=("protocol", *map(quantity_label, QUANTITIES)),
        rows=tuple(rows),
        notes=(*dict.fromkeys(notes), interval_note(runs[0].resampling)),
        sections=tuple(sections),
    )


def _difference(official: Number, strict: Number) -> Number:
    if official.value is None or strict.value is None:
        return Number(value=None)
    return Number(value=strict.value - official.value, signed=True)


def _mean_number(mean: Mean | None, estimates: Estimates, metric: str) -> Number:
    if mean is None or not mean.applicable:
        return Number(value=None, comparable=False)
    whole = mean.scored == mean.applicable
    number = Number(
        value=mean.value,
        scored=mean.scored,
        applicable=mean.applicable,
        comparable=whole,
        decimals=2 if mean.in_total else 4,
    )
    return with_interval(number, estimates.get(metric)) if whole and mean.value is not None else number


def quantity_label(of: str) -> str:
    """``TotalScore`` or the name of a metric as published."""
    return "TotalScore" if of == TOTAL else METRIC_BY_ID[of].label


def _protocol_groups(first: int, width: int) -> tuple[ColumnGroup, ...]:
    return tuple(
        ColumnGroup(first=first + i * width, last=first + (i + 1) * width - 1, heading=protocol.value)
        for i, protocol in enumerate(SHOWN_PROTOCOLS)
    )


def _unshown_note(runs: Sequence[RunReading]) -> str:
    shown, *others = runs
    return f"{shown.suite[0]}: {shown.label} is shown, not {'; '.join(run.label for run in others)}."
