"""The web page: one HTML file with style, scripts and the data of the cases; pictures and clips lie beside it."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from refeval.cases import Category
from refeval.protocols import ProtocolName
from refeval.records import RenderStatus, ScoreStatus
from refeval.reports.case_data import ClipLink, case_data, script_safe_json
from refeval.reports.cells import DAGGER, Cell
from refeval.reports.gallery import Gallery
from refeval.reports.table import Table
from refeval.reports.totals import category_table, status_table
from refeval.reports.views import SHOWN_PROTOCOLS, RunView

_TEMPLATES = ("page.html", "parts.html")
# In this order: a later one uses what the earlier ones define.
_SCRIPTS = ("elements.js", "tables.js", "scores.js", "player.js", "case.js", "filters.js", "keys.js", "start.js")
_STYLE = "page.css"
# What a file: page may show: itself, and files where it lies. No network in any case.
_LOCAL = "'self' file:"
_PER_CENT = re.compile(r"-?[0-9]+\.[0-9]+\n")


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """One run at the top of the page.

    Attributes:
        totals: (protocol, total, whether it may be compared).
        scored: scored and applicable cases over all metrics, strict.
        clips: clips and cases.
    """

    label: str
    totals: tuple[tuple[str, str, bool], ...]
    scored: tuple[int, int]
    clips: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class FactRow:
    """One line of the manifests: a text per run, and whether they differ."""

    name: str
    values: tuple[str, ...]
    differs: bool


def page(views: Sequence[RunView], labels: Sequence[str], gallery: Gallery, link: ClipLink, totals: Table) -> str:
    """The page as HTML; the same runs give the same text.

    Args:
        views: runs of one suite, the base first.
        labels: their names.
        gallery: their cases.
        link: URL of a clip as the page plays it.
        totals: of the runs.
    """
    style, scripts = _asset(_STYLE), [_asset(name) for name in _SCRIPTS]
    environment = Environment(
        loader=DictLoader({name: _asset(name) for name in _TEMPLATES}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"words": _words, "sort_value": _sort_value, "bar_part": _bar_part}
    named = list(zip(views, labels, strict=True))
    text: str = environment.get_template("page.html").render(
        policy=_policy(style, scripts),
        style=Markup(style),
        scripts=[Markup(script) for script in scripts],
        # Escaped for a script element, where HTML's own escapes are not read.
        data=Markup(script_safe_json(case_data(views, labels, gallery, link))),
        summaries=[_summary(view, label) for view, label in named],
        suite=views[0].manifest.suite,
        totals=totals,
        heats=[
            (label, p.value, category_table(view, p, label=label)) for view, label in named for p in SHOWN_PROTOCOLS
        ],
        statuses=[(label, status_table(view, label=label)) for view, label in named],
        facts=_facts(views),
        gallery=gallery,
        categories=_present_categories(gallery),
        known_statuses=[status.value for status in ScoreStatus],
        protocols=[protocol.value for protocol in SHOWN_PROTOCOLS],
        strict=ProtocolName.STRICT.value,
        dagger=DAGGER,
    )
    return text


def _asset(name: str) -> str:
    return (importlib.resources.files("refeval.reports") / "assets" / name).read_bytes().decode()


def _words(heading: str) -> list[str]:
    return re.split(r"(?<=[a-z])(?=[A-Z])|(?<=_)", heading)


def _sort_value(cell: str) -> str:
    """What a column is sorted by: the number of a cell, or its text; empty where there is no value."""
    if isinstance(cell, Cell):
        value = cell.number.value
        return "" if value is None else repr(value)
    first = cell.split("\n")[0].removesuffix(DAGGER)
    return first if re.search(r"\w", first) else ""


def _bar_part(cell: str, column: str) -> str | None:
    """How far a mean reaches, ``0.0`` to ``100.0``; None for what is not in per cent."""
    if not _PER_CENT.match(cell) or column.endswith("(raw)"):
        return None
    return f"{min(max(float(cell.split()[0]), 0.0), 100.0):.1f}"


def _policy(style: str, scripts: Sequence[str]) -> str:
    """The Content-Security-Policy: this style and these scripts, local pictures and clips, no network."""
    rules = {
        "default-src": "'none'",
        "style-src": _source_hash(style),
        "script-src": " ".join(map(_source_hash, scripts)),
        "img-src": f"data: {_LOCAL}",
        "media-src": _LOCAL,
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
    )


def _facts(views: Sequence[RunView]) -> list[FactRow]:
    by_run: list[dict[str, Any]] = [dict(view.facts) for view in views]
    names = dict.fromkeys(name for facts in by_run for name in facts)
    rows = [(name, tuple(str(facts.get(name, "–")) for facts in by_run)) for name in names]
    return [FactRow(name=name, values=values, differs=len(set(values)) > 1) for name, values in rows]


def _present_categories(gallery: Gallery) -> list[str]:
    there = {card.category for card in gallery.cards}
    there |= {case.category.value for _, cases in gallery.empty for case in cases}
    return [category.value for category in Category if category.value in there]
