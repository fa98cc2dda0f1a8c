"""Commands that list what there is: ``refeval cases``, ``models``, ``metrics`` and ``doctor``."""

from __future__ import annotations

import os
from pathlib import Path

from refeval import checking
from refeval import doctor as doctor_module
from refeval.cases import Case
from refeval.catalogue import METRIC_BY_ID, PUBLISHED_METRICS
from refeval.commands.console import show_rows
from refeval.commands.results import show_findings
from refeval.errors import ExitCode, MissingPrerequisite
from refeval.place import Place
from refeval.registry import generator_targets, load_metric, metric_targets
from refeval.selection import Selection
from refeval.suites import SUITES, load_suite


def cases(
    suite: str, *, data: Path | None, category: str | None, list_suites: bool, check: bool, as_json: bool
) -> ExitCode:
    """``refeval cases``."""
    if list_suites:
        rows = [
            {"suite": s.name, "cases": s.cases, "domain": s.domain.value, "what": s.summary} for s in SUITES.values()
        ]
        return show_rows("suites", rows, as_json)
    loaded = load_suite(suite, data=data)
    if check:
        findings = checking.check_references(loaded)
        fine = f"{len(loaded.cases)} cases: every reference image opens"
        return show_findings(findings, fine, as_json)
    chosen = Selection(category=category).of(loaded)
    return show_rows(f"cases of {loaded.name}", [_case_row(case) for case in chosen], as_json)


def models(*, as_json: bool) -> ExitCode:
    """``refeval models``."""
    from refeval.registry import describe_generator

    rows = [{"model": name, "what": describe_generator(name)} for name in sorted(generator_targets())]
    return show_rows("models", rows, as_json)


def metrics(*, as_json: bool) -> ExitCode:
    """``refeval metrics``."""
    there = metric_targets()
    ids = [*(metric.id for metric in PUBLISHED_METRICS), *sorted(set(there) - set(METRIC_BY_ID))]
    rows = []
    for metric_id in ids:
        label = METRIC_BY_ID[metric_id].label if metric_id in METRIC_BY_ID else metric_id
        try:
            label, status = load_metric(metric_id, _place_of_environment()).label, "available"
        except MissingPrerequisite as error:
            status = error.what if metric_id in there else "not available in this version"
        rows.append({"id": metric_id, "metric": label, "status": status})
    return show_rows("metrics", rows, as_json)


def doctor(*, as_json: bool) -> ExitCode:
    """``refeval doctor``."""
    rows = [
        {"area": d.area, "name": d.name, "status": "ok" if d.present else "missing", "note": d.note, "cure": d.cure}
        for d in doctor_module.diagnose()
    ]
    return show_rows("doctor", rows, as_json)


def _place_of_environment() -> Place:
    weights = os.environ.get("REFEVAL_WEIGHTS")
    return Place(weights=Path(weights) if weights else None)


def _case_row(case: Case) -> dict[str, str]:
    references = ", ".join(f"{reference.label} ({reference.kind.value})" for reference in case.references)
    return {"case": case.id, "category": case.category.value, "references": references, "prompt": case.prompt}
