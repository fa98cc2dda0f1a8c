"""The scorer in this process: what becomes of a value that is no number."""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar

import pytest

from refeval.cases import Case
from refeval.clips import Clip
from refeval.metrics.base import Metric, Score
from refeval.records import ScoreStatus
from refeval.runs import Run
from refeval.scoring import Scorer
from tests.guarantees.broken_clips import write_good_clip
from tests.guarantees.command import refeval, write_suite


class _Odd(Metric):
    id, label, version, range = "odd", "Odd", "1", (0.0, 1.0)
    values: ClassVar[dict[str, tuple[float, float]]] = {
        "singleobj_1": (0.5, 0.25),
        "singleobj_2": (math.nan, 0.5),
        "singleobj_3": (0.5, math.nan),
        "singleobj_4": (0.5, math.inf),
    }

    def score(self, case: Case, clip: Clip) -> Score:
        value, strict = self.values[case.id]
        return Score(value=value, strict_value=strict, frames_used=len(clip))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run folder with four clips."""
    clips = tmp_path / "clips"
    clips.mkdir()
    for case in _Odd.values:
        write_good_clip(clips / f"{case}.mp4")
    suite = write_suite(tmp_path / "suite.json", list(_Odd.values))
    done = refeval("render", "--model", f"videos:{clips}", "--suite", suite, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    return Run(tmp_path / "run")


def test_a_value_that_is_no_number_is_a_failure_under_either_protocol(run: Run) -> None:
    scorer = Scorer(run, {"odd": _Odd()}, decoder="pyav", accept_lifeless=True)
    for case in run.suite().cases:
        keys = scorer.keys(case)
        assert scorer.pending(case, keys) == ["odd"]
        scorer.score(case, keys, ["odd"], scorer.open(case, ["odd"]))
        assert scorer.pending(case, keys) == []
    first, *others = (run.score_record("odd", case) for case in _Odd.values)
    assert first is not None and (first.status, first.strict_value) == (ScoreStatus.SCORED, 0.25)
    for record in others:
        assert record is not None
        assert (record.status, record.reason) == (ScoreStatus.FAILED, "the value is not a finite number")
