"""The fixed set: the same in every run, voted on once, compared with a reference of the same judge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from refeval.errors import BadInput
from refeval.metrics.judges.base import Reply, Request
from refeval.metrics.judges.calibration import Calibration, calibrate, calibration_clips
from refeval.metrics.judges.frames import pictures_sha256
from refeval.metrics.judges.panel import Panel
from refeval.metrics.judges.replies import ReplyFolder
from refeval.metrics.judges.rubric import OWN_RUBRIC

_THEN = Calibration(judge="j", rubric_sha256="r", votes={"a": [4.0, 5.0], "b": [2.0], "c": [3.0]}, served=["x"])


class _Judge:
    """Likes smooth clips; finds no number for one clip."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def ask(self, request: Request) -> Reply:
        self.asked.append(request.case)
        text = "well" if "multiobject" in request.case else "5" if request.case.endswith("smooth") else "2"
        return Reply(text=text, model_served="served")


def test_the_set_is_fixed() -> None:
    clips, again = calibration_clips(), calibration_clips()
    assert list(clips) == list(again)
    assert len({pictures_sha256([clip.frames.tobytes()]) for clip in clips.values()}) == len(clips) == 6
    for name, clip in clips.items():
        assert np.array_equal(clip.frames, again[name].frames)
        if name.endswith("smooth"):
            jumbled = clips[name.replace("smooth", "jumbled")].frames
            assert sorted(map(bytes, jumbled)) == sorted(map(bytes, clip.frames))


def test_it_is_voted_on_once_per_run_beside_the_cases(tmp_path: Path) -> None:
    judge = _Judge()
    panel = Panel(judge=judge, replies=ReplyFolder(tmp_path))
    first = calibrate(panel, model="j", rubric=OWN_RUBRIC)
    assert calibrate(panel, model="j", rubric=OWN_RUBRIC) == first
    assert len(judge.asked) == 18
    assert first.votes["faceobj_1-smooth"] == [5.0, 5.0, 5.0]
    assert first.votes["multiobject_1-jumbled"] == []
    assert (first.judge, first.rubric_sha256, first.served) == ("j", OWN_RUBRIC.sha256, ["served"])
    assert all(path.name.startswith("calibration~") for path in tmp_path.glob("*.json"))


def test_drift_is_the_mean_change_of_the_clips_that_can_be_compared() -> None:
    now = replace(_THEN, votes={"a": [4.0], "b": [3.0, 3.0], "c": [], "d": [1.0]}, served=["y"])
    drift = now.drift_from(_THEN)
    assert drift.clips == {"a": -0.5, "b": 1.0}
    assert drift.mean == 0.25
    assert drift.left_out == ["c", "d"]
    assert drift.served_changed
    assert _THEN.drift_from(_THEN).mean == 0.0
    assert replace(_THEN, votes={}).drift_from(_THEN).mean is None


@pytest.mark.parametrize("changes", [{"judge": "k"}, {"rubric_sha256": "s"}, {"set_version": 2}])
def test_a_reference_of_something_else_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(BadInput, match=r"of another (judge|rubric|set_version)"):
        _THEN.drift_from(replace(_THEN, **changes))  # type: ignore[arg-type]


def test_references_are_kept_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "reference.json"
    _THEN.write(path)
    assert Calibration.read(path) == _THEN
    for content in ("{}", "", "[1]"):
        path.write_text(content)
        with pytest.raises(BadInput, match="not the reference"):
            Calibration.read(path)
