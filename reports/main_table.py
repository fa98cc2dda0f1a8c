"""The main comparison: published systems by group, every run in the group of its model, all metrics."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from refeval.catalogue import METRIC_BY_ID, PUBLISHED_METRICS
from refeval.protocols import ProtocolName
from refeval.published import PublishedRow
from refeval.reports.breakdowns import QUANTITIES, quantity_number
from refeval.reports.cells import BEST_NOTE, NO_PART, Cell, Number, mark_best
from refeval.reports.judge_notes import judge_note
from refeval.reports.published_rows import published_beside, published_name, source_notes
from refeval.reports.readings import RunReading, interval_note
from refeval.reports.table import ColumnGroup, Section, Table
from refeval.reports.totals import zeros_notes
from refeval.suites import SUITES

_PROTOCOL = ProtocolName.V1_1
_OTHER_GROUP = "runs of other systems"
_SIZE = re.compile(r"(?<![A-Za-z0-9.])(?:P)?(\d+(?:\.\d+)?)b(?![a-z0-9])", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class _Line:
    """One row before its group is known; runs come below the published row of the same model."""

    group: str
    order: tuple[object, ...]
    cells: tuple[str, ...]


def main_table(runs: Sequence[RunReading]) -> Table:
    """The layout of the papers' main table under opens2v-v1.1.

    Args:
        runs: of one suite. A run whose model is published, by its name, stands below the published row.

    Returns:
        Per cent, with intervals and counts for runs; the best of every group and column in bold.
    """
    notes: list[str] = []
    systems = published_beside([run.view for run in runs], notes)
    by_name = {system.model.lower(): system for system in systems}
    lines = [_published_line(system, systems) for system in systems]
    # Means over fewer cases than the published systems were scored on cannot beat them.
    rivals = not systems or all(run.view.manifest.suite["cases"] == _full_size(run) for run in runs)
    lines += [_run_line(run, i, by_name, rivals, notes) for i, run in enumerate(runs)]
    # The order of the papers: closed before open, within a group small models first, then by name.
    lines.sort(key=lambda line: (line.group == _OTHER_GROUP, line.group, line.order))
    starts = [i for i, line in enumerate(lines) if i == 0 or line.group != lines[i - 1].group]
    notes += [BEST_NOTE, interval_note(runs[0].resampling), "Below each value of a run: scored/applicable cases."]
    notes += source_notes(systems)
    return Table(
        title="Main comparison, normalised scores in per cent, higher is better",
        columns=("model", "size", "source", "TotalScore", *(metric.label for metric in PUBLISHED_METRICS)),
        rows=mark_best([line.cells for line in lines], starts),
        notes=tuple(dict.fromkeys(notes)),
        left=3,
        sections=tuple(
            Section(first=i, heading=lines[i].group, kind="run" if lines[i].group == _OTHER_GROUP else "group")
            for i in starts
        ),
        groups=(ColumnGroup(first=3, last=3 + len(PUBLISHED_METRICS), heading=_heading(runs)),),
    )


def _heading(runs: Sequence[RunReading]) -> str:
    suite, domain = runs[0].suite[0], runs[0].view.manifest.domain
    return f"{suite}, {domain} domain, {_PROTOCOL}"


def model_size(name: str) -> str:
    """Parameters as a model's name tells them, e.g. ``14B``; empty where it does not."""
    found = _SIZE.search(name)
    return f"{found[1]}B" if found else ""


def _published_line(system: PublishedRow, systems: Sequence[PublishedRow]) -> _Line:
    numbers = [Number(value=system.total), *(Number(value=system.columns.get(metric)) for metric in METRIC_BY_ID)]
    name = published_name(system, systems)
    return _Line(
        group=system.group,
        order=(_parameters(system.size), system.model.lower(), 0),
        cells=(name, system.size or NO_PART, "published", *map(Cell, numbers)),
    )


def _run_line(
    run: RunReading, place: int, by_name: Mapping[str, PublishedRow], rivals: bool, notes: list[str]
) -> _Line:
    system = by_name.get(run.view.manifest.model.lower())
    size = system.size if system else model_size(run.view.manifest.model)
    order = (_parameters(size), system.model.lower() if system else run.label, 1 + place)
    cells = [Cell(number if rivals else replace(number, comparable=False)) for number in _run_numbers(run, notes)]
    return _Line(
        group=system.group if system else _OTHER_GROUP,
        order=order,
        cells=(run.label, size or NO_PART, "run", *cells),
    )


def _run_numbers(run: RunReading, notes: list[str]) -> list[Number]:
    if note := judge_note(run.view, run.label):
        notes.append(note)
    notes += zeros_notes(run.label, run.total(_PROTOCOL))
    return [quantity_number(run, _PROTOCOL, of, notes) for of in QUANTITIES]


def _full_size(run: RunReading) -> int:
    return SUITES[f"opens2v-{run.view.manifest.domain}"].cases


def _parameters(size: str) -> float:
    return float(size.removesuffix("B")) if size else math.inf
