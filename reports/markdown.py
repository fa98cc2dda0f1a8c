"""The report as Markdown: what the web page shows, without the clips."""

from __future__ import annotations

from collections.abc import Sequence

from refeval.reports.gallery import Card, Gallery
from refeval.reports.table import Table
from refeval.reports.totals import category_table, status_table
from refeval.reports.views import SHOWN_PROTOCOLS, RunView

_WORST = 20
_ORDER = (
    "Cases with a failed, unparseable or missing score come first, then the lowest weighted mean of the "
    "normalised strict values that there are."
)


def report_markdown(views: Sequence[RunView], labels: Sequence[str], gallery: Gallery, totals: Table) -> str:
    """Facts of the runs, totals, means per category, statuses, the worst cases and the empty ones."""
    tables = [_facts_table(views, labels), totals]
    for view, label in zip(views, labels, strict=True):
        tables += [category_table(view, protocol, label=label) for protocol in SHOWN_PROTOCOLS]
        tables.append(status_table(view, label=label))
    if gallery.cards:
        tables.append(_worst_table(gallery))
    if gallery.empty:
        tables.append(_empty_table(gallery))
    return "\n".join(["# Evaluation report\n", *(table.markdown() for table in tables)])


def _facts_table(views: Sequence[RunView], labels: Sequence[str]) -> Table:
    facts = [view.facts for view in views]
    names = dict.fromkeys(name for rows in facts for name, _ in rows)
    rows = tuple((name, *(dict(rows).get(name, "–") for rows in facts)) for name in names)
    return Table(title="Runs", columns=("", *labels), rows=rows, left=1 + len(views))


def _worst_table(gallery: Gallery) -> Table:
    rows = []
    for card in gallery.cards[:_WORST]:
        quality = "–" if card.quality is None else f"{100 * card.quality:.1f}"
        rows.append((card.id, card.category, "; ".join(_what_is_wrong(card)), quality))
    return Table(
        title="Worst cases",
        columns=("case", "category", "what is wrong", "mean"),
        rows=tuple(rows),
        notes=(_ORDER,),
        left=3,
    )


def _what_is_wrong(card: Card) -> list[str]:
    """Clips that are not there, then every status and reason with the metrics that have it."""
    gaps = [showing.gap for showing in card.showings if showing.gap]
    metrics: dict[tuple[str, str | None], dict[str, None]] = {}
    for showing in card.showings:
        for line in showing.lines:
            if line.status in card.trouble:
                metrics.setdefault((line.status, line.reason), {})[line.label] = None
    reasons = [f"{', '.join(labels)}: {status}, {reason}" for (status, reason), labels in metrics.items()]
    return list(dict.fromkeys([*reasons, *gaps]))


def _empty_table(gallery: Gallery) -> Table:
    rows = tuple((reason, ", ".join(case.id for case in cases), str(len(cases))) for reason, cases in gallery.empty)
    return Table(
        title="Cases without a clip and without a score",
        columns=("reason", "cases", "number"),
        rows=rows,
        left=2,
    )
