"""Runs with planted scores and no clips: enough for tables and figures, and quick to make."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from refeval.cases import Domain, Suite
from refeval.catalogue import METRIC_BY_ID
from refeval.reports.readings import RunReading, read_runs
from refeval.runs import Run, make_manifest, start_run
from refeval.statistics.results import Resampling
from tests.reports.small_run import CLIP, scored, small_suite

FEW = Resampling(resamples=300)
# Two cases of each category, so that none is without an interval; the official FaceSim leaves out multiface.
CASES: dict[str, tuple[str, ...]] = {
    "singleface_1": ("Man",),
    "singleface_2": ("Woman",),
    "singleobj_1": ("dog",),
    "singleobj_2": ("cup",),
    "multiface_1": ("Man", "Woman"),
    "multiface_2": ("Woman", "Man"),
    "faceobj_1": ("Man", "hat"),
    "faceobj_2": ("Woman", "bag"),
}


def planted_suite(name: str = "opens2v-open", domain: Domain = Domain.OPEN) -> Suite:
    cases = {case: labels for case, labels in CASES.items() if domain is Domain.OPEN or case.startswith("singleface")}
    return small_suite(None, cases, name=name, domain=domain)


def planted_run(
    folder: Path,
    suite: Suite,
    *,
    model: str = "squares",
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    level: Callable[[int], float] | None = None,
    without: Sequence[tuple[str, str]] = (),
) -> Run:
    """A run whose case at a place gives every metric the same part of its range.

    Args:
        level: the part, 0..1, by place; by default falling from 0.9 in steps of 0.1.
        without: (metric, case) that get no record.
    """
    manifest = make_manifest(
        suite,
        model=model,
        generator_version="1",
        settings=settings or {},
        weights={},
        seed=seed,
        clip=CLIP,
        expected=None,
    )
    run = start_run(folder, manifest, suite)
    for place, case in enumerate(suite.cases):
        for metric in METRIC_BY_ID:
            if (metric, case.id) not in without:
                run.write_score(scored(case, metric, level(place) if level else 0.9 - 0.1 * place))
    return run


def member_run(folder: Path, study: str, member: str, seed: int = 0, level: float = 0.5) -> Run:
    """One seed of a member of an ablation; ``level`` shifts all its scores."""
    ablation = {"ablation": {"study": study, "member": member}}
    return planted_run(
        folder / f"{study}-{member}-{seed}",
        planted_suite(),
        seed=seed,
        settings=ablation,
        level=lambda place: level + 0.02 * place,
    )


def readings(*runs: Run) -> tuple[RunReading, ...]:
    return read_runs(runs, resampling=FEW)
