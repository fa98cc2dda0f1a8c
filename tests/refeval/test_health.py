"""What counts as black, frozen, short, wrong in size or rate."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from refeval.cases import ClipSpec
from refeval.clips import Clip
from refeval.errors import UnusableClip
from refeval.health import HealthCheck
from tests.guarantees.broken_clips import Frames, moving_frames

# Larger than the grid of cells, so that a cell is the mean of 4 x 4 pixels.
_WIDTH, _HEIGHT = 256, 144
_SPEC = ClipSpec(width=_WIDTH, height=_HEIGHT, frames=6, fps=Fraction(16))


def _judge(frames: Frames, check: HealthCheck, fps: Fraction = _SPEC.fps) -> None:
    for frame in frames:
        check.see(frame)
    check.finish(fps=fps)


def _still(level: int, count: int = _SPEC.frames) -> Frames:
    return np.full((count, _HEIGHT, _WIDTH, 3), level, np.uint8)


def _moving() -> Frames:
    return moving_frames(width=_WIDTH, height=_HEIGHT, count=_SPEC.frames)


def test_a_clip_as_expected_passes() -> None:
    _judge(_moving(), HealthCheck(_SPEC))


@pytest.mark.parametrize("level", [0, 9])
def test_black(level: int) -> None:
    with pytest.raises(UnusableClip, match="every frame is black"):
        _judge(_still(level), HealthCheck())


def test_black_even_when_it_flickers() -> None:
    frames = _still(0)
    frames[::2] = 9
    with pytest.raises(UnusableClip, match="every frame is black"):
        _judge(frames, HealthCheck())


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_one_cell_of_one_colour_in_one_frame_is_not_black(channel: int) -> None:
    frames = _still(0)
    frames[3, 40:44, 80:84, channel] = 10
    _judge(frames, HealthCheck())


@pytest.mark.parametrize("level", [10, 128, 255])
def test_frozen(level: int) -> None:
    with pytest.raises(UnusableClip, match="frozen"):
        _judge(_still(level), HealthCheck())


def test_grain_on_a_still_picture_is_frozen() -> None:
    grain = np.random.default_rng(0).integers(-1, 2, (_SPEC.frames, _HEIGHT, _WIDTH, 3))
    with pytest.raises(UnusableClip, match="frozen"):
        _judge((_still(120).astype(int) + grain).astype(np.uint8), HealthCheck())


@pytest.mark.parametrize(("change", "frozen"), [(1, True), (2, False)])
def test_a_change_of_two_levels_in_one_cell_is_motion(change: int, frozen: bool) -> None:
    frames = _still(120)
    frames[4, 40:44, 80:84, 1] += change
    if frozen:
        with pytest.raises(UnusableClip, match="frozen"):
            _judge(frames, HealthCheck())
    else:
        _judge(frames, HealthCheck())


def test_slow_drift_is_held_against_the_first_frame() -> None:
    frames = _still(120, count=12)
    frames += np.arange(12, dtype=np.uint8)[:, None, None, None] // 4
    _judge(frames, HealthCheck())


@pytest.mark.parametrize("level", [0, 128])
def test_lifeless_clips_pass_when_they_are_accepted(level: int) -> None:
    _judge(_still(level), HealthCheck(_SPEC, accept_lifeless=True))


def test_accepting_lifeless_clips_accepts_nothing_else() -> None:
    with pytest.raises(UnusableClip, match="expected 7"):
        _judge(_still(0), HealthCheck(replace(_SPEC, frames=7), accept_lifeless=True))
    with pytest.raises(UnusableClip, match="at least 2"):
        _judge(_still(0, count=1), HealthCheck(accept_lifeless=True))


def test_one_frame_is_too_few() -> None:
    with pytest.raises(UnusableClip, match="1 frame; at least 2"):
        _judge(_moving()[:1], HealthCheck())


@pytest.mark.parametrize(
    ("expected", "reason"),
    [
        (replace(_SPEC, width=832), "the size is 256x144, expected 832x144"),
        (replace(_SPEC, height=480), "the size is 256x144, expected 256x480"),
        (replace(_SPEC, frames=81), "the clip has 6 frames, expected 81"),
        (replace(_SPEC, fps=Fraction(24000, 1001)), "the rate is 16 frames per second, expected 24000/1001"),
    ],
)
def test_another_spec(expected: ClipSpec, reason: str) -> None:
    with pytest.raises(UnusableClip, match=reason):
        _judge(_moving(), HealthCheck(expected))


def test_without_a_spec_any_size_length_and_rate_pass() -> None:
    _judge(moving_frames(width=34, height=18, count=3), HealthCheck(), fps=Fraction(7, 3))


@pytest.mark.parametrize("size", [(2, 2), (30, 200), (200, 30)], ids=str)
def test_pictures_smaller_than_the_grid(size: tuple[int, int]) -> None:
    frames = np.zeros((3, *size, 3), np.uint8)
    frames[1] = 50
    _judge(frames, HealthCheck())


def test_a_clip_runs_its_check_once() -> None:
    class Counting(HealthCheck):
        finished = 0

        def finish(self, *, fps: Fraction) -> None:
            Counting.finished += 1
            super().finish(fps=fps)

    class Stream:
        fps, width, height, announced = _SPEC.fps, _WIDTH, _HEIGHT, _SPEC.frames

        def decode(self):  # type: ignore[no-untyped-def]
            return iter(_moving())

    clip = Clip(Stream(), check=Counting(_SPEC))
    for _ in range(3):
        assert sum(1 for _ in clip) == _SPEC.frames
    assert Counting.finished == 1
