"""Published systems beside the runs of a totals table: marked, grouped, and only where they can be compared."""

from __future__ import annotations

from collections.abc import Sequence

from refeval.cases import Domain
from refeval.catalogue import METRIC_BY_ID
from refeval.published import PublishedRow, published_rows
from refeval.reports.cells import NO_PART
from refeval.reports.table import Section
from refeval.reports.views import RunView
from refeval.suites import SUITES

NO_PART_NOTE = f"{NO_PART}: no part of the total of this domain, or not stated."
_SUITE_FILES = frozenset({"Open-Domain_Eval", "Human-Domain_Eval", "Single-Domain_Eval"})
_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def is_published_suite(name: str) -> bool:
    """Whether published numbers were measured on a suite of this name."""
    return name.startswith("opens2v") or name in _SUITE_FILES


def left_out_note(name: str) -> str:
    """Why nothing published stands beside the runs of another suite."""
    return f"Published systems are left out beside suite '{name}': their numbers belong to OpenS2V-Eval."


def published_beside(views: Sequence[RunView], notes: list[str]) -> list[PublishedRow]:
    """The published systems of the domains that the runs measure; none for a suite that is not OpenS2V-Eval.

    Args:
        views: the runs of the table.
        notes: gets a sentence for every run that cannot be compared, or only in part.
    """
    comparable: dict[Domain, None] = {}
    for view in views:
        name, domain = str(view.manifest.suite["name"]), view.manifest.domain
        if not is_published_suite(name):
            notes.append(left_out_note(name))
            continue
        comparable.setdefault(domain)
        size, full = int(view.manifest.suite["cases"]), SUITES[f"opens2v-{domain}"].cases
        if size != full:
            notes.append(
                f"Suite '{name}' has {size} cases; the published systems were scored on all {full} of the "
                f"{domain} domain."
            )
    return [row for domain in comparable for row in published_rows(domain)]


def add_published(
    systems: Sequence[PublishedRow], rows: list[tuple[str, ...]], sections: list[Section], notes: list[str]
) -> None:
    """Append one row per system under headings by group; ``notes`` gets the sources."""
    groups = dict.fromkeys((system.domain, system.group) for system in systems)
    domains = {system.domain for system in systems}
    for domain, group in sorted(groups):
        heading = f"published, {group}" + (f", {domain} domain" if len(domains) > 1 else "")
        sections.append(Section(first=len(rows), heading=heading, kind="published"))
        members = [system for system in systems if (system.domain, system.group) == (domain, group)]
        rows += [_published_row(system, systems) for system in members]
    notes += source_notes(systems)


def published_name(system: PublishedRow, systems: Sequence[PublishedRow]) -> str:
    """The name of a system with the number of its source among the sources of ``systems``."""
    return f"{system.model}\u00a0{_mark(_origins(systems)[_origin(system)])}"


def source_notes(systems: Sequence[PublishedRow]) -> list[str]:
    """What ``published`` means, and the numbered sources; nothing where there is no system."""
    if not systems:
        return []
    notes = ["published: as its source prints it, not run here."]
    notes += [f"{_mark(i)} {origin}." for origin, i in _origins(systems).items()]
    if any(metric not in system.columns for system in systems for metric in METRIC_BY_ID):
        notes.append(NO_PART_NOTE)
    return notes


def _origins(systems: Sequence[PublishedRow]) -> dict[str, int]:
    return {origin: i for i, origin in enumerate(dict.fromkeys(map(_origin, systems)), 1)}


def _published_row(system: PublishedRow, systems: Sequence[PublishedRow]) -> tuple[str, ...]:
    cells = [f"{system.columns[metric]:.2f}" if metric in system.columns else NO_PART for metric in METRIC_BY_ID]
    return (published_name(system, systems), system.protocol.value, f"{system.total:.2f}", *cells, "published")


def _origin(system: PublishedRow) -> str:
    parts = [system.source, *(f"also in {other}" for other in system.also_in)]
    if system.evaluated_by:
        parts.append(f"evaluated by {system.evaluated_by}")
    return "; ".join([*parts, *([system.note] if system.note else [])])


def _mark(number: int) -> str:
    return str(number).translate(_SUPERSCRIPT)
