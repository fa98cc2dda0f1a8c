"""Tables of a comparison: deltas, categories, the worst cases, gates, and what a reader must know beside them."""

from __future__ import annotations

import math

from refeval.catalogue import METRIC_BY_ID
from refeval.comparing import Comparison, JudgeDrift, Row
from refeval.gates import Judged
from refeval.protocols import ProtocolName
from refeval.records import ScoreStatus
from refeval.reports.table import Table
from refeval.reports.totals import DAGGER
from refeval.sides import CategoryDelta, Coverage, Loss
from refeval.statistics import Delta

_NONE = "–"
_SMALL_P = 0.0001


def comparison_tables(judged: Judged, worst: int) -> list[Table]:
    """All tables, in the order in which they are read.

    Args:
        judged: the comparison and its gates.
        worst: how many cases of the largest losses are shown; 0: none.
    """
    comparison = judged.comparison
    tables = [deltas_table(comparison), categories_table(comparison)]
    if worst and comparison.losses:
        tables.append(losses_table(comparison, worst))
    if judged.verdicts:
        tables.append(gates_table(judged))
    return tables


def deltas_table(comparison: Comparison) -> Table:
    """The total, then every metric: values and deltas in per cent points, with coverage, interval and p."""
    *metrics, total = comparison.rows
    mark = "" if comparison.complete or comparison.protocol is ProtocolName.STRICT else DAGGER
    per_cent = f"{100 * comparison.resampling.level:g}"
    title = (
        f"{comparison.candidate} against {comparison.base}, suite {comparison.suite}, {comparison.protocol}, "
        f"{comparison.domain} domain"
    )
    notes = [
        "Points: per cent of the metric's range; higher is better. Below a value: scored/applicable cases. Below a "
        f"delta: its {per_cent} % interval. Below a p: corrected by Holm over the metrics; the total is a question of "
        "its own. n: cases in the mean of both sides. "
        "detectable: the true delta that such a comparison shows with power .80.",
        *_coverage_notes(comparison),
        *comparison.notes,
        *(f"Differs, and was allowed ({entry.name}): {entry}." for entry in comparison.accepted),
        *(drift_sentence(drift) for drift in comparison.drifts),
    ]
    return Table(
        title=title,
        columns=("metric", "base", "candidate", "delta", "p, Holm", "n", "detectable"),
        rows=(_delta_row(total, mark), *(_delta_row(row, "") for row in metrics)),
        notes=tuple(notes),
    )


def categories_table(comparison: Comparison) -> Table:
    """Per category, the delta of every metric in points, with the numbers of cases in the two means."""
    labels = {row.delta.of: row.label for row in comparison.rows[:-1]}
    cells = {(entry.category, entry.metric): _category_cell(entry) for entry in comparison.categories}
    categories = list(dict.fromkeys(entry.category for entry in comparison.categories))
    return Table(
        title="Deltas per category, in points",
        columns=("category", *labels.values()),
        rows=tuple((category, *(cells[category, metric] for metric in labels)) for category in categories),
        notes=("Below a delta: cases in the mean of the base and of the candidate. Without intervals: few cases.",),
    )


def losses_table(comparison: Comparison, worst: int) -> Table:
    """The cases that take most from the total."""
    shown = comparison.losses[:worst]
    rows = tuple(
        (loss.case, METRIC_BY_ID[loss.metric].label, _value(loss.base), _value(loss.candidate), _share(loss))
        for loss in shown
    )
    return Table(
        title=f"Largest losses, {len(shown)} of {len(comparison.losses)}",
        columns=("case", "metric", "base", "candidate", "points"),
        rows=rows,
        notes=("Values in the metric's own unit; points of the TotalScore.",),
        left=2,
    )


def gates_table(judged: Judged) -> Table:
    """What every gate says."""
    rows = tuple(("BREACH" if v.breach else "held", v.name, v.reason) for v in judged.verdicts)
    return Table(title="Gates", columns=("result", "gate", "reason"), rows=rows, left=3)


def drift_sentence(found: JudgeDrift) -> str:
    """How far the judge has moved, or why that is not known."""
    if found.drift is None:
        return f"The judge's drift is not known: {found.reason}."
    drift = found.drift
    if drift.mean is None:
        return "The judge's drift is not known: no clip of the fixed set has votes on both sides."
    left_out = f", without {len(drift.left_out)} of {len(drift.left_out) + len(drift.clips)}" if drift.left_out else ""
    served = "; another model answers" if drift.served_changed else ""
    moved = f"The judge's votes on the fixed set (1 to 5) moved by {drift.mean:+.2f}"
    return f"{moved} (seed {found.seed}{left_out}{served})."


def _coverage_notes(comparison: Comparison) -> list[str]:
    if comparison.complete:
        return []
    if comparison.protocol is not ProtocolName.STRICT:
        return [
            f"{DAGGER} Not every applicable case has a value: the official formula leaves such cases out of a mean, "
            "and counts a metric without any value as a mean of 0 in its raw unit. Missing cases can raise a score."
        ]
    if comparison.allow_missing:
        return ["Not every applicable case has a value: such a case counts as the lowest value of its metric."]
    return ["Undefined: not every applicable case has a value."]


def _delta_row(row: Row, mark: str) -> tuple[str, ...]:
    delta = row.delta
    known = delta.delta is not None and row.base.scored > 0 and row.candidate.scored > 0
    return (
        row.label,
        _side_cell(delta.base, row.base, mark),
        _side_cell(delta.candidate, row.candidate, mark),
        _delta_cell(delta) if known else _NONE,
        f"{_p(delta.p)}\n{_p(delta.p_holm)}" if known and delta.p is not None else _NONE,
        str(delta.n_pairs),
        _points(delta.detectable, ".2f") if known else _NONE,
    )


def _delta_cell(delta: Delta) -> str:
    value = _points(delta.delta)
    return value if delta.low is None else f"{value}\n{_points(delta.low)}, {_points(delta.high)}"


def _side_cell(value: float | None, coverage: Coverage, mark: str) -> str:
    if not coverage.scored:
        return f"absent\n{coverage}"
    return f"undefined\n{coverage}" if value is None else f"{_points(value, '.2f')}{mark}\n{coverage}"


def _category_cell(entry: CategoryDelta) -> str:
    if not entry.n_base and not entry.n_candidate:
        return _NONE
    return f"{_points(entry.delta)}\n{entry.n_base}, {entry.n_candidate}"


def _points(value: float | None, form: str = "+.2f") -> str:
    if value is None or not math.isfinite(value):
        return _NONE
    # Without the sign of a zero that rounding has left.
    text = format(100 * value, form)
    return text.lstrip("+-") if float(text) == 0 else text


def _p(value: float | None) -> str:
    if value is None:
        return _NONE
    return f"{value:.4f}" if value >= _SMALL_P else f"<{_SMALL_P}"


def _value(value: float | ScoreStatus) -> str:
    return value.value if isinstance(value, ScoreStatus) else f"{value:.4f}"


def _share(loss: Loss) -> str:
    return f"{100 * loss.share:+.3f}"
