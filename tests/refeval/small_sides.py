"""Baselines with full coverage under all seven metrics, for the tests of comparisons: no clip, no process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refeval.baselines import Baseline, baseline_of
from refeval.cases import Suite
from refeval.records import ScoreRecord
from refeval.runs import Run, make_manifest, start_run
from tests.reports.small_run import CLIP, scored, small_suite

LABELS = {"singleface": ("Man",), "singleobj": ("dog",), "multiface": ("Man", "Woman"), "humanobj": ("Woman", "bag")}
WAY = {
    "version": "1",
    "libraries": "numpy 2.4.6",
    "decoder": "pyav 18.1.0",
    "settings": {"frames": 32},
    "weights": "0" * 64,
}
JUDGED = {"judge": "a-judge", "served": ["a-judge-1"], "rubric": {"wording": "official", "sha256": "7" * 64}}


def suite_of(cases: int = 5, *, name: str = "opens2v-open") -> Suite:
    """A suite of so many cases in each of four categories."""
    return small_suite(None, {f"{c}_{i}": labels for c, labels in LABELS.items() for i in range(cases)}, name=name)


def folder_of(
    folder: Path, quality: Mapping[str, float], *, seed: int = 0, suite: Suite | None = None, model: str = "squares"
) -> Run:
    """A run folder with every score and no clip; ``quality`` as for ``small_run``."""
    suite = suite or suite_of()
    parts: dict[str, Any] = {"generator_version": "1", "settings": {"steps": 4}, "weights": {}, "expected": None}
    run = start_run(folder, make_manifest(suite, model=model, seed=seed, clip=CLIP, **parts), suite)
    for case in suite.cases:
        for metric in ("aesthetics", "motion_smoothness", "motion_amplitude", "facesim", "gme", "nexus", "natural"):
            run.write_score(made(scored(case, metric, quality[case.id])))
    return run


def made(record: ScoreRecord, **way: Any) -> ScoreRecord:
    """A record that says how it was made."""
    if record.value is None:
        return record
    details = JUDGED if record.metric == "natural" else {}
    return record.model_copy(update={"made_by": {**WAY, **way}, "details": details})


def even(suite: Suite, part: float = 0.5, spread: float = 0.02) -> dict[str, float]:
    """Quality by case: about ``part``, and a little different in every case."""
    return {case.id: part + spread * (place * 7 % 5 - 2) for place, case in enumerate(suite.cases)}


def side(folder: Path, quality: Mapping[str, float], **settings: Any) -> Baseline:
    """The baseline of :func:`folder_of`."""
    return baseline_of(folder_of(folder, quality, **settings))
