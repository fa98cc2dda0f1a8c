"""``refeval.score``: one clip in a notebook gives what a run records."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import refeval
from refeval.clips import open_clip
from refeval.errors import BadInput, MissingPrerequisite
from refeval.suites import load_suite
from tests.guarantees.command import refeval as command

METRICS = ("motion_amplitude", "gme")


def test_one_clip_scores_as_in_a_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    asked = ("--cases", "faceobj_1", "--metrics", ",".join(METRICS), "--tiny", "--frames", "6")
    done = command("run", "--model", "copy-paste", "--suite", "sprites", *asked, "--out", run)
    assert done.returncode == 0, done.stderr
    case = load_suite("sprites")["faceobj_1"]
    path = run / "videos/faceobj_1.mp4"
    frames = np.stack(list(open_clip(path).frames))
    for clip in (path, str(path), frames):
        scores = refeval.score(clip, case, METRICS, fps=8, device="cpu", tiny=True)
        for metric in METRICS:
            record = json.loads((run / f"scores/{metric}/faceobj_1.json").read_text())
            assert scores[metric].value == pytest.approx(record["value"], abs=1e-6)
            assert scores[metric].strict_value == pytest.approx(record["strict_value"], abs=1e-6)


def test_what_cannot_be_scored_is_said(tmp_path: Path) -> None:
    case = load_suite("sprites")["faceobj_1"]
    frames = np.zeros((4, 32, 32, 3), np.uint8)
    with pytest.raises(BadInput, match="unknown metric 'gem'"):
        refeval.score(frames, case, ["gem"])
    with pytest.raises(MissingPrerequisite, match="metric 'gme'"):
        refeval.score(frames, case, ["gme"], weights=tmp_path)
