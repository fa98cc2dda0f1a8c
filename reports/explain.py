"""How a total comes about: metric by metric for a run, and what one case adds to it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from refeval.cases import Case, select_cases
from refeval.protocols import MetricTotal, ProtocolName, Total
from refeval.records import RenderRecord
from refeval.reports.table import Table
from refeval.reports.views import SHOWN_PROTOCOLS, RunView, as_view, metric_label, run_labels
from refeval.runs import Run

_NONE = "–"


def explain_run(run: Run | RunView, *, protocols: Sequence[ProtocolName] = tuple(ProtocolName)) -> list[Table]:
    """For each protocol, from raw means to the total: the contributions of the rows add up to the last row."""
    view = as_view(run)
    title = run_labels([view])[0]
    return [total_table(view.total(protocol), title=title) for protocol in protocols]


def explain_case(
    run: Run | RunView, case_id: str, *, protocols: Sequence[ProtocolName] = SHOWN_PROTOCOLS
) -> list[Table]:
    """What a case asks for, what became of its clip, and what each metric gives it and adds to the totals.

    Raises:
        BadInput: the suite of the run does not have the case.
    """
    view = as_view(run)
    [case] = select_cases(view.suite, [case_id])
    return [_case_table(view, case), _scores_table(view, case, protocols)]


def total_table(total: Total, *, title: str) -> Table:
    """One total, metric by metric; the title names whose it is."""
    rows = [_metric_row(metric) for metric in total.metrics]
    scored = sum(metric.scored for metric in total.metrics)
    applicable = sum(metric.applicable for metric in total.metrics)
    whole = _NONE if total.total is None else _per_cent(total.total)
    last = ("TotalScore", _NONE, _NONE, _NONE, "1.00", whole, _NONE, f"{scored}/{applicable}")
    notes = [
        "0..1 = (mean - low) / (high - low); points = 100 * weight * that; in mean = cases averaged.",
        *(f"{problem}." for problem in total.problems),
    ]
    if total.total is None:
        notes.append("The total is undefined: an applicable case has no value.")
    elif not total.complete:
        notes.append("The total is not comparable: an applicable case has no value.")
    return Table(
        title=f"{title}, {total.protocol}, {total.domain} domain",
        columns=("metric", "mean", "range", "0..1", "weight", "points", "in mean", "scored"),
        rows=(*rows, last),
        notes=tuple(notes),
    )


def _metric_row(metric: MetricTotal) -> tuple[str, ...]:
    return (
        metric.label,
        _NONE if metric.mean is None else f"{metric.mean:.4f}",
        f"{metric.low:g} to {metric.high:g}",
        _NONE if metric.normalised is None else f"{metric.normalised:.4f}",
        f"{metric.weight:.2f}",
        _NONE if metric.normalised is None else _per_cent(metric.weight * metric.normalised),
        str(metric.averaged),
        f"{metric.scored}/{metric.applicable}",
    )


def _case_table(view: RunView, case: Case) -> Table:
    references = [
        (f"reference {i}", f"{reference.label} ({reference.kind}), {reference.path}")
        for i, reference in enumerate(case.references, 1)
    ]
    rows = [
        ("category", case.category.value),
        ("prompt", case.prompt),
        *references,
        *_clip_rows(view.renders.get(case.id)),
    ]
    return Table(
        title=f"Case {case.id}, {run_labels([view])[0]}",
        columns=("field", "value"),
        rows=tuple(rows),
        left=2,
    )


def _clip_rows(render: RenderRecord | None) -> list[tuple[str, str]]:
    if render is None:
        return [("clip", "no record")]
    rows = [("clip", f"{render.status}: {render.reason}" if render.reason else render.status.value)]
    if render.clip:
        rows.append(("clip size", clip_text(render)))
    rows.append(("seed", str(render.seed)))
    if render.settings:
        rows.append(("settings", json.dumps(render.settings, sort_keys=True, ensure_ascii=False)))
    if render.notes:
        rows.append(("notes", json.dumps(render.notes, sort_keys=True, ensure_ascii=False)))
    rows.append(("rendered in", f"{render.seconds:g} s, peak {render.peak_memory_mb:g} MB"))
    if render.sha256:
        rows.append(("sha256", render.sha256))
    return rows


def clip_text(render: RenderRecord) -> str:
    """Size, length and rate of a clip as its record gives them, e.g. ``192x112, 16 frames at 8 fps``."""
    clip = render.clip or {}
    length = f", {frames} frames" if (frames := clip.get("frames")) else ""
    return f"{clip.get('width')}x{clip.get('height')}{length} at {clip.get('fps')} fps"


def _scores_table(view: RunView, case: Case, protocols: Sequence[ProtocolName]) -> Table:
    shares = [{entry.metric: entry.share for entry in view.contributions(protocol)[case.id]} for protocol in protocols]
    rows = [_score_row(view, case, metric, shares) for metric in view.metrics]
    sums = [[value for value in share.values() if value is not None] for share in shares]
    points = [_points(math.fsum(values) if values else None) for values in sums]
    last = ("all", "", "", _NONE, _NONE, *points)
    notes = [
        "Columns named by a protocol: points of the TotalScore (in per cent) that the case adds through the metric."
    ]
    remarks = {
        f"{entry.label}, {protocol}: {entry.reason}."
        for protocol in protocols
        for entry in view.contributions(protocol)[case.id]
        if entry.raw is not None and entry.reason
    }
    if any(total.total is None for total in map(view.total, protocols)):
        notes.append("An undefined total has no shares.")
    return Table(
        title="Scores of the case",
        columns=("metric", "status", "reason", "value", "strict value", *(p.value for p in protocols)),
        rows=(*rows, last),
        notes=(*notes, *sorted(remarks)),
        left=3,
    )


def _score_row(view: RunView, case: Case, metric: str, shares: Sequence[dict[str, float | None]]) -> tuple[str, ...]:
    status, reason = view.status(metric, case.id)
    record = view.scores.get((metric, case.id))
    values = (record.value, record.strict_value) if record else (None, None)
    return (
        metric_label(metric),
        status.value,
        reason or "",
        *(_NONE if value is None else f"{value:.4f}" for value in values),
        *(_points(share.get(metric)) for share in shares),
    )


def _points(share: float | None) -> str:
    return _NONE if share is None else f"{100 * share:.4f}"


def _per_cent(value: float) -> str:
    return f"{100 * value:.2f}"
