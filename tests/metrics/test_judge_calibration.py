"""The fixed set and what is kept of the votes on it: the same in every run, compared with the same judge's only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from refeval.errors import BadInput, CorruptFile, RefevalError
from refeval.metrics.judges.base import JudgeUnavailable, Reply, Request
from refeval.metrics.judges.calibration import (
    CALIBRATION,
    Calibration,
    drift_between,
    load_calibration,
    read_calibration,
    read_reference,
)
from refeval.metrics.judges.fixed_set import NAMES, calibrate, calibration_clips, calibration_requests
from refeval.metrics.judges.frames import pictures_sha256
from refeval.metrics.judges.panel import Panel
from refeval.metrics.judges.replies import ReplyFolder
from refeval.metrics.judges.rubric import OWN_RUBRIC

_THEN = Calibration(
    judge="j",
    rubric={"wording": "own", "sha256": "r"},
    set_version=1,
    asked=4,
    votes={"a": [4.0, 5.0], "b": [2.0], "c": [3.0]},
    served=["x"],
)


def _with(**changes: object) -> Calibration:
    return Calibration.model_validate({**_THEN.model_dump(), **changes})


class _Judge:
    """Likes smooth clips; finds no number for one clip."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[str] = []
        self.error = error

    def ask(self, request: Request) -> Reply:
        self.asked.append(request.case)
        if self.error and len(self.asked) > 10:
            raise self.error
        text = "well" if "multiobject" in request.case else "5" if request.case.endswith("smooth") else "2"
        return Reply(text=text, model_served="served")


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    return calibration_requests("j", OWN_RUBRIC)


def test_the_set_is_fixed(requests: list[Request]) -> None:
    clips, again = calibration_clips(), calibration_clips()
    assert list(clips) == list(again)
    assert len({pictures_sha256([clip.frames.tobytes()]) for clip in clips.values()}) == len(clips) == 6
    for name, clip in clips.items():
        assert np.array_equal(clip.frames, again[name].frames)
        if name.endswith("smooth"):
            jumbled = clips[name.replace("smooth", "jumbled")].frames
            assert sorted(map(bytes, jumbled)) == sorted(map(bytes, clip.frames))
    assert [(request.case, request.repeat) for request in requests] == list(NAMES)
    assert len(set(NAMES)) == 18
    assert len({request.pictures for request in requests}) == 6


def test_it_is_voted_on_once_beside_the_cases(requests: list[Request], tmp_path: Path) -> None:
    judge = _Judge()
    panel = Panel(judge=judge, replies=ReplyFolder(tmp_path))
    first = calibrate(panel, requests)
    assert calibrate(panel, requests) == first
    assert len(judge.asked) == first.asked == 18
    assert first.votes["faceobj_1-smooth"] == [5.0, 5.0, 5.0]
    assert first.votes["multiobject_1-jumbled"] == []
    assert first.mean == 3.5
    assert (first.judge, first.rubric, first.served) == ("j", OWN_RUBRIC.as_settings(), ["served"])
    assert all(path.name.startswith("calibration~") for path in tmp_path.glob("*.json"))


@pytest.mark.parametrize("error", [RefevalError("no answer"), ZeroDivisionError("no answer")])
def test_a_failure_is_a_reason_and_only_open_votes_are_asked_for_later(
    requests: list[Request], tmp_path: Path, error: Exception
) -> None:
    panel = Panel(judge=_Judge(error), replies=ReplyFolder(tmp_path), at_once=1)
    failed = calibrate(panel, requests)
    assert failed.votes == {}
    assert "no answer" in str(failed.reason)
    judge = _Judge()
    whole = calibrate(Panel(judge=judge, replies=ReplyFolder(tmp_path)), requests)
    assert (len(judge.asked), whole.reason, len(whole.all_votes)) == (8, None, 12)


def test_a_judge_that_is_gone_is_no_reason_to_go_on(requests: list[Request], tmp_path: Path) -> None:
    panel = Panel(judge=_Judge(JudgeUnavailable("gone")), replies=ReplyFolder(tmp_path), at_once=1)
    with pytest.raises(JudgeUnavailable):
        calibrate(panel, requests)


def test_drift_is_the_mean_change_of_the_clips_that_can_be_compared() -> None:
    now = _with(votes={"a": [4.0], "b": [3.0, 3.0], "c": [], "d": [1.0]}, served=["y"])
    drift = now.drift_from(_THEN)
    assert drift.clips == {"a": -0.5, "b": 1.0}
    assert drift.mean == 0.25
    assert drift.left_out == ["c", "d"]
    assert drift.served_changed
    assert drift.reference == _THEN.sha256 != now.sha256
    same = _THEN.drift_from(_THEN)
    assert (same.mean, same.left_out, same.served_changed) == (0.0, [], False)
    assert _with(votes={"d": [1.0]}).drift_from(_THEN).mean is None


_OTHERS = [
    {"judge": "k"},
    {"rubric": {"wording": "own", "sha256": "s"}},
    {"set_version": 2},
    {"votes": {}, "reason": "no answer"},
]


@pytest.mark.parametrize("changes", _OTHERS)
def test_a_reference_of_something_else_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(BadInput, match=r"of another (judge|rubric|set)\n|holds no votes") as caught:
        _THEN.drift_from(_with(**changes))
    assert "REFEVAL_JUDGE_CALIBRATION=" in str(caught.value)


def test_what_is_kept_tells_its_own_damage(tmp_path: Path) -> None:
    path = tmp_path / CALIBRATION
    assert read_calibration(path) is None
    _THEN.write(path)
    assert load_calibration(path) == read_calibration(path) == read_reference(path) == _THEN
    path.write_text(path.read_text().replace("4.0", "3.0"))
    assert read_calibration(path) is None
    with pytest.raises(CorruptFile):
        load_calibration(path)
    for content in ("{}", "", "[1]"):
        path.write_text(content)
        with pytest.raises(BadInput, match="not the calibration"):
            read_reference(path)


def test_other_votes_are_set_aside_a_failure_is_not(tmp_path: Path) -> None:
    path = tmp_path / CALIBRATION
    _with(votes={}, reason="no answer").write(path)
    _THEN.write(path)
    _THEN.compared_with(_THEN).write(path)
    assert not (tmp_path / "superseded").exists()
    _with(judge="k").write(path)
    [aside] = (tmp_path / "superseded").iterdir()
    assert load_calibration(aside) == _THEN.compared_with(_THEN)


def test_the_drift_between_two_runs(tmp_path: Path) -> None:
    run, baseline = tmp_path / "run", tmp_path / "baseline"
    now = _with(votes={"a": [5.0], "b": [3.0], "c": [3.0]})
    now.write(run / "judge" / CALIBRATION)
    assert drift_between(run, baseline) is None
    _with(votes={}, reason="no answer").write(baseline / "judge" / CALIBRATION)
    assert drift_between(run, baseline) is None
    _THEN.write(baseline / "judge" / CALIBRATION)
    assert drift_between(run, baseline) == now.drift_from(_THEN)
    _with(judge="k").write(baseline / "judge" / CALIBRATION)
    with pytest.raises(BadInput, match="another judge"):
        drift_between(run, baseline)
