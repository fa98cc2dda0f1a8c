"""The report of one or more runs: one web page that needs nothing else, the same as Markdown, and CSV files.

Made from run folders alone, without a clock, a network or weights: the same folders give the same bytes. What
is shown comes from manifests, suites and records only.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from refeval.cases import Category
from refeval.documents import write_bytes
from refeval.errors import BadInput
from refeval.protocols import ProtocolName
from refeval.records import RenderStatus, ScoreStatus
from refeval.reports.gallery import Gallery, build_gallery
from refeval.reports.markdown import report_markdown
from refeval.reports.table import csv_text
from refeval.reports.totals import (
    DAGGER,
    Mean,
    category_means,
    category_table,
    mean_text,
    status_table,
    totals_csv,
    totals_table,
)
from refeval.reports.views import SHOWN_PROTOCOLS, RunView, metric_label, run_labels
from refeval.runs import Run

_TEMPLATES = ("web.html", "web_parts.html")


def write_report(runs: Sequence[Run], out: Path) -> list[Path]:
    """Write ``index.html``, ``report.md``, ``totals.csv``, ``categories.csv`` and ``cases.csv``.

    Clips lie inside the page while all of them together stay below 24 MiB; else the page links to the run
    folders by relative paths, and page and runs have to be moved together.

    Args:
        runs: one or more runs of the same suite; several are shown side by side.
        out: folder; it is made.

    Returns:
        The files.

    Raises:
        BadInput: no run, a folder that is not a run, or runs of differing suites.
        CorruptFile: a damaged manifest or suite.
    """
    views = [RunView(run) for run in runs]
    _refuse_differing_suites(views)
    labels = run_labels(views)
    gallery = build_gallery(views, labels, out)
    contents = {
        "index.html": _page(views, labels, gallery),
        "report.md": report_markdown(views, labels, gallery),
        "totals.csv": totals_csv(views),
        "categories.csv": _categories_csv(views, labels),
        "cases.csv": _cases_csv(views, labels),
    }
    for name, text in contents.items():
        write_bytes(out / name, text.encode())
    return [out / name for name in contents]


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """One run at the top of the page.

    Attributes:
        totals: (protocol, total, whether it may be compared).
        scored: scored and applicable cases over all metrics, strict.
        clips: clips and cases.
        facts: rows of the manifest.
    """

    label: str
    totals: tuple[tuple[str, str, bool], ...]
    scored: tuple[int, int]
    clips: tuple[int, int]
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class HeatTable:
    """Means per category as the page shows them: rows of (category, (mean, its text) per metric)."""

    label: str
    protocol: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[Mean, str], ...]], ...]
    notes: tuple[str, ...]


def _refuse_differing_suites(views: Sequence[RunView]) -> None:
    if not views:
        raise BadInput("no run to report", cure="give one or more run folders")
    first = views[0]
    for view in views[1:]:
        if view.manifest.suite["sha256"] != first.manifest.suite["sha256"]:
            raise BadInput(
                "runs of differing suites cannot be shown side by side",
                details=tuple((str(v.run.folder), str(v.manifest.suite["name"])) for v in (first, view)),
                cure="write one report per suite",
            )


def _page(views: Sequence[RunView], labels: Sequence[str], gallery: Gallery) -> str:
    style, script = _asset("web.css"), _asset("web.js")
    environment = Environment(
        loader=DictLoader({name: _asset(name) for name in _TEMPLATES}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["words"] = _words
    page: str = environment.get_template("web.html").render(
        policy=_policy(style, script, gallery),
        style=Markup(style),
        script=Markup(script),
        summaries=[_summary(view, label) for view, label in zip(views, labels, strict=True)],
        suite=views[0].manifest.suite,
        totals=totals_table(views),
        heats=[_heat(view, label, p) for view, label in zip(views, labels, strict=True) for p in SHOWN_PROTOCOLS],
        statuses=[status_table(view, label=label) for view, label in zip(views, labels, strict=True)],
        gallery=gallery,
        categories=_present_categories(gallery),
        known_statuses=[status.value for status in ScoreStatus],
        protocols=[protocol.value for protocol in SHOWN_PROTOCOLS],
        strict=ProtocolName.STRICT.value,
        dagger=DAGGER,
    )
    return page


def _words(heading: str) -> list[str]:
    return re.split(r"(?<=[a-z])(?=[A-Z])|(?<=_)", heading)


def _asset(name: str) -> str:
    return (importlib.resources.files("refeval.reports") / name).read_bytes().decode()


def _policy(style: str, script: str, gallery: Gallery) -> str:
    """The Content-Security-Policy: this style and this script, pictures inside the page, no network."""
    clips = [showing.clip for card in gallery.cards for showing in card.showings if showing.clip]
    linked = any(not clip.source.startswith("data:") for clip in clips)
    rules = {
        "default-src": "'none'",
        "style-src": _source_hash(style),
        "script-src": _source_hash(script),
        "img-src": "data:",
        "media-src": "data: 'self' file:" if linked else "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _source_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _summary(view: RunView, label: str) -> RunSummary:
    totals = {protocol: view.total(protocol) for protocol in SHOWN_PROTOCOLS}
    strict = totals[ProtocolName.STRICT]
    rendered = [r for r in view.renders.values() if r.status is RenderStatus.RENDERED]
    return RunSummary(
        label=label,
        totals=tuple(
            (
                protocol.value,
                "undefined" if total.total is None else f"{100 * total.total:.2f}",
                total.complete,
            )
            for protocol, total in totals.items()
        ),
        scored=(sum(m.scored for m in strict.metrics), sum(m.applicable for m in strict.metrics)),
        clips=(len(rendered), len(view.suite.cases)),
        facts=view.facts,
    )


def _heat(view: RunView, label: str, protocol: ProtocolName) -> HeatTable:
    table = category_table(view, protocol, label=label)
    return HeatTable(
        label=label,
        protocol=protocol.value,
        columns=("category", *table.columns[2:]),
        rows=tuple(
            (category.value, tuple((mean, mean_text(mean)) for mean in row.values()))
            for category, row in category_means(view, protocol).items()
        ),
        notes=table.notes,
    )


def _present_categories(gallery: Gallery) -> list[str]:
    there = {card.category for card in gallery.cards}
    there |= {case.category.value for _, cases in gallery.empty for case in cases}
    return [category.value for category in Category if category.value in there]


def _categories_csv(views: Sequence[RunView], labels: Sequence[str]) -> str:
    columns = ("run", "protocol", "category", "metric", "mean", "unit", "scored", "applicable")
    rows: list[tuple[Any, ...]] = []
    for view, label in zip(views, labels, strict=True):
        for protocol in SHOWN_PROTOCOLS:
            for category, means in category_means(view, protocol).items():
                rows += [
                    (
                        label,
                        protocol.value,
                        category.value,
                        metric,
                        mean.value,
                        "per cent" if mean.in_total else "raw",
                        mean.scored,
                        mean.applicable,
                    )
                    for metric, mean in means.items()
                ]
    return csv_text(columns, rows)


def _cases_csv(views: Sequence[RunView], labels: Sequence[str]) -> str:
    columns = ("run", "case", "category", "metric", "label", "value", "strict_value", "status", "reason")
    rows: list[tuple[Any, ...]] = []
    for view, label in zip(views, labels, strict=True):
        for case in view.suite.cases:
            for metric in view.metrics:
                record = view.scores.get((metric, case.id))
                values = (record.value, record.strict_value) if record else (None, None)
                status, reason = view.status(metric, case.id)
                name = metric_label(metric)
                rows.append((label, case.id, case.category.value, metric, name, *values, status.value, reason))
    return csv_text(columns, rows)
