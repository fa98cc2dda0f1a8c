"""G3: a broken clip has a reason, a healthy one passes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from refeval.clips import open_clip
from refeval.errors import UnusableClip
from refeval.health import HealthCheck
from tests.guarantees.broken_clips import BROKEN, EXPECTED, REASONS, moving_frames, write_good_clip, write_video


def _watch(path: Path) -> int:
    return sum(1 for _ in open_clip(path, check=HealthCheck(EXPECTED)))


@pytest.mark.parametrize("name", BROKEN)
def test_every_broken_clip_has_its_reason(name: str, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    BROKEN[name](path)
    with pytest.raises(UnusableClip) as caught:
        _watch(path)
    assert REASONS[name] in caught.value.what


@pytest.mark.parametrize("name", BROKEN)
def test_a_reason_is_the_same_in_every_run_and_names_no_folder(name: str, tmp_path: Path) -> None:
    reasons = set()
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        BROKEN[name](folder / "clip.mp4")
        with pytest.raises(UnusableClip) as caught:
            _watch(folder / "clip.mp4")
        reasons.add(str(caught.value))
    assert len(reasons) == 1
    assert str(tmp_path) not in reasons.pop()


def test_there_are_twelve_and_each_has_a_reason() -> None:
    assert len(BROKEN) == 12
    assert BROKEN.keys() == REASONS.keys()


def test_a_good_clip_passes(tmp_path: Path) -> None:
    write_good_clip(tmp_path / "clip.mp4")
    assert _watch(tmp_path / "clip.mp4") == EXPECTED.frames


def test_a_black_first_frame_passes(tmp_path: Path) -> None:
    frames = moving_frames()
    frames[0] = 0
    write_video(tmp_path / "clip.mp4", frames)
    assert _watch(tmp_path / "clip.mp4") == EXPECTED.frames


def test_a_dark_clip_that_moves_passes(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", moving_frames() // 8)
    assert _watch(tmp_path / "clip.mp4") == EXPECTED.frames


def test_a_still_clip_with_one_small_moving_thing_passes(tmp_path: Path) -> None:
    frames = np.full((8, 48, 64, 3), 90, np.uint8)
    for i, frame in enumerate(frames):
        frame[20:24, 10 + i : 14 + i] = 200
    write_video(tmp_path / "clip.mp4", frames)
    assert _watch(tmp_path / "clip.mp4") == EXPECTED.frames
