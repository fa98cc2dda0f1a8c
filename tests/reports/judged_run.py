"""A small run whose clips a scripted server has judged, through the real metric and its real client."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refeval.cases import Suite
from refeval.clips import open_clip
from refeval.metrics.judges.settings import JudgeConfig
from refeval.metrics.natural import NaturalScore
from refeval.records import ScoreRecord, ScoreStatus
from refeval.runs import Run
from tests.metrics.scripted_judge import Answer, answering
from tests.reports.small_run import small_run, small_suite

CASES = ("singleface_1", "singleobj_1")


def judged_run(folder: Path, *answers: Answer | str, suite: Suite | None = None, **settings: Any) -> Run:
    """A run of two clips; the first 18 answers are those of the calibration."""
    run = small_run(folder, suite or small_suite(None), rendered=CASES)
    judge(run, CASES, *answers, **settings)
    return run


def judge(run: Run, cases: Sequence[str], *answers: Answer | str, begin: bool = True, **settings: Any) -> None:
    """Have cases of a run judged, and the judge calibrated before."""
    with answering(*answers) as server:
        metric = NaturalScore(JudgeConfig(**{"url": server.url, "model": "judge", **settings}))
        metric.keep_in(run.folder)
        if begin:
            metric.begin()
        for case_id in cases:
            score = metric.score(run.suite()[case_id], open_clip(run.clip_path(case_id)))
            clip = run.render_record(case_id)
            assert clip is not None
            record = ScoreRecord(
                case=case_id,
                metric=metric.id,
                status=ScoreStatus.SCORED,
                task_key="1" * 64,
                value=score.value,
                strict_value=score.strict_value,
                frames_used=score.frames_used,
                details=dict(score.details),
                clip_sha256=clip.sha256,
            )
            run.write_score(record)
