"""What MotionAmplitude measures: direction, cancelling, size and rate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from refeval.cases import Case, Category
from refeval.clips import Clip, Frame
from refeval.errors import UnusableClip
from refeval.metrics.base import Score
from refeval.metrics.motion_amplitude import MotionAmplitude, flow_fields, signed_mean

_CASE = Case(id="faceobj_1", category=Category.FACEOBJ, prompt="", references=())
_SEEDS = [0, 1, 2]


def texture(height: int, width: int, seed: int) -> NDArray[np.float32]:
    """Soft blobs about 10 pixels wide, without a seam at the edges."""
    noise = np.random.default_rng(seed).random((height, width, 3))
    squared = np.fft.fftfreq(height)[:, None, None] ** 2 + np.fft.fftfreq(width)[None, :, None] ** 2
    soft = np.fft.ifft2(np.fft.fft2(noise, axes=(0, 1)) * np.exp(-32 * np.pi**2 * squared), axes=(0, 1)).real
    span = soft.max() - soft.min()
    return ((soft - soft.min()) / span * 255).astype(np.float32)


def pan(count: int, speed: int, *, seed: int = 0, width: int = 160, height: int = 96) -> Frame:
    """A textured plane that moves ``speed`` pixels to the right per frame."""
    plane = texture(height, 2 * width, seed).astype(np.uint8)
    return np.stack([np.roll(plane, speed * i, axis=1)[:, :width] for i in range(count)])


def zoom(count: int, *, seed: int = 0, width: int = 160, height: int = 96) -> Frame:
    """A textured plane that comes 2 % closer per frame."""
    plane = texture(height, width, seed).astype(np.uint8)
    centre = ((width - 1) / 2, (height - 1) / 2)
    turns = [cv2.getRotationMatrix2D(centre, 0, 1 + 0.02 * i) for i in range(count)]
    return np.stack([cv2.warpAffine(plane, m, (width, height), borderMode=cv2.BORDER_REFLECT) for m in turns])


def score(frames: Frame, fps: int = 8) -> Score:
    return MotionAmplitude().score(_CASE, Clip.from_frames(np.ascontiguousarray(frames), fps))


@pytest.mark.parametrize("seed", _SEEDS)
def test_a_pan_has_the_mean_of_both_axes(seed: int) -> None:
    # 2 pixels along x and none along y: 1, less the edges where new picture comes in (measured 0.95 to 0.97).
    assert score(pan(9, 2, seed=seed)).value == pytest.approx(1, abs=0.07)


@pytest.mark.parametrize("seed", _SEEDS)
def test_a_pan_to_the_right_equals_the_same_pan_to_the_left(seed: int) -> None:
    frames = pan(9, 2, seed=seed)
    right, left = score(frames), score(frames[:, :, ::-1])
    # Measured difference 1.1e-3 and 2e-5: Farneback does not treat the two edges alike.
    assert left.value == pytest.approx(right.value, rel=5e-3)
    assert left.strict_value == pytest.approx(right.strict_value, rel=1e-4)
    assert np.sign(_signed(frames)) == -np.sign(_signed(frames[:, :, ::-1]))


@pytest.mark.parametrize("seed", _SEEDS)
def test_out_and_back_cancels_in_the_official_value_only(seed: int) -> None:
    out = pan(9, 2, seed=seed)
    there_and_back = np.concatenate([out, out[-2::-1]])
    # Measured 3e-4 and 2e-4 (relative).
    assert score(there_and_back).value < 2e-3
    assert score(there_and_back).strict_value == pytest.approx(score(out).strict_value, rel=2e-3)


@pytest.mark.parametrize("seed", _SEEDS)
def test_a_zoom_cancels_in_the_official_value_only(seed: int) -> None:
    # Measured 0.006 to 0.015 against 0.86 to 0.91 pixels per frame.
    zoomed = score(zoom(6, seed=seed))
    assert zoomed.value < 0.03
    assert zoomed.details["magnitude_px_per_frame"] > 0.5


def test_right_and_up_cancel_in_the_official_value_only() -> None:
    plane = texture(192, 320, 0).astype(np.uint8)
    frames = np.stack([np.roll(plane, (-2 * i, 2 * i), axis=(0, 1))[:96, :160] for i in range(9)])
    moved = score(frames)
    assert moved.value < 0.01
    assert moved.details["magnitude_px_per_frame"] == pytest.approx(2 * 2**0.5, rel=0.07)


@pytest.mark.parametrize("seed", _SEEDS)
def test_double_speed_doubles_the_strict_value(seed: int) -> None:
    slow, fast = score(pan(9, 1, seed=seed)).strict_value, score(pan(9, 2, seed=seed)).strict_value
    # Measured 2.001 to 2.005.
    assert fast / slow == pytest.approx(2, rel=0.01)


@pytest.mark.parametrize("seed", _SEEDS)
def test_the_strict_value_is_per_second_not_per_frame(seed: int) -> None:
    frames = pan(17, 1, seed=seed)
    whole, half = score(frames, fps=16), score(frames[::2], fps=8)
    # Measured difference 3e-4.
    assert half.strict_value == pytest.approx(whole.strict_value, rel=2e-3)
    assert half.value == pytest.approx(2 * whole.value, rel=0.02)


def test_the_strict_value_is_in_diagonals_per_second() -> None:
    # 3-4-5: the diagonal is 160 pixels.
    found = score(pan(5, 2, width=128, height=96), fps=12)
    assert found.strict_value == pytest.approx(found.details["magnitude_px_per_frame"] * 12 / 160, rel=1e-12)


@pytest.mark.parametrize("seed", _SEEDS)
def test_the_strict_value_does_not_depend_on_size(seed: int) -> None:
    large = pan(9, 4, seed=seed, width=320, height=192)
    small = np.stack([cv2.resize(frame, (160, 96), interpolation=cv2.INTER_AREA) for frame in large])
    # Measured 3.3 to 3.9 %: blobs and window have another relation, the edges another share.
    assert score(small).strict_value == pytest.approx(score(large).strict_value, rel=0.06)
    assert score(small).value == pytest.approx(score(large).value / 2, rel=0.1)


def test_a_black_first_frame_is_scored() -> None:
    frames = pan(6, 2)
    frames[0] = 0
    assert np.isfinite(score(frames).value)
    assert score(frames).strict_value > 0


@pytest.mark.parametrize("level", [0, 200])
def test_a_flat_clip_does_not_move(level: int) -> None:
    still = score(np.full((4, 96, 160, 3), level, np.uint8))
    assert (still.value, still.strict_value, still.frames_used) == (0, 0, 4)


def test_numbers_are_float32_finite_and_fit_for_json() -> None:
    frames = pan(5, 2)
    fields = flow_fields(Clip.from_frames(frames, 8))
    assert {field.cells.dtype for field in fields} == {np.dtype(np.float32)}
    assert {field.cells.shape for field in fields} == {(9, 16, 2)}
    assert signed_mean(fields).dtype == np.float32
    found = score(frames)
    assert found.value == float(np.float32(found.value))
    assert json.loads(json.dumps(asdict(found), allow_nan=False)) == asdict(found)


def test_fewer_than_two_frames_are_unusable() -> None:
    with pytest.raises(UnusableClip, match="fewer than 2 frames"):
        score(pan(1, 2))


def test_a_strip_is_unusable_and_one_row_of_cells_is_enough() -> None:
    with pytest.raises(UnusableClip, match="too flat"):
        score(np.zeros((3, 9, 160, 3), np.uint8))
    assert score(np.zeros((3, 10, 160, 3), np.uint8)).value == 0


def test_a_clip_that_breaks_in_the_middle_raises_its_reason() -> None:
    class Breaking:
        fps, width, height, announced = 8, 160, 96, 30

        def decode(self) -> Iterator[Frame]:
            yield from pan(12, 2)
            raise UnusableClip("decoding stops after 12 frames")

    with pytest.raises(UnusableClip, match="stops after 12 frames"):
        MotionAmplitude().score(_CASE, Clip(Breaking()))  # type: ignore[arg-type]


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_of_opencv_do_not_move_the_number(threads: int) -> None:
    before, expected = cv2.getNumThreads(), score(pan(7, 2))
    try:
        cv2.setNumThreads(threads)
        assert score(pan(7, 2)) == expected
    finally:
        cv2.setNumThreads(before)


def test_scoring_leaves_the_threads_of_opencv_alone() -> None:
    before = cv2.getNumThreads()
    score(pan(4, 2))
    assert cv2.getNumThreads() == before


@pytest.mark.parametrize("cores", [1, 2, 64])
def test_cores_do_not_move_the_number(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = score(pan(9, 2))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr(os, "process_cpu_count", lambda: cores, raising=False)
    assert score(pan(9, 2)) == expected


def test_scoring_again_gives_the_same_number_wherever_the_arrays_lie() -> None:
    frames = pan(7, 2)
    expected = score(frames)
    for shift in range(1, 41):
        ballast = np.empty(shift * 1009, np.uint8)
        assert score(frames) == expected
        del ballast


def test_another_process_on_one_core_gets_the_same_number() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from tests.metrics.test_motion_amplitude import pan, score; print(score(pan(7, 2)))"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", code]
    child = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert child.stdout.strip() == str(score(pan(7, 2)))


def _signed(frames: Frame) -> float:
    return float(signed_mean(flow_fields(Clip.from_frames(np.ascontiguousarray(frames), 8))))
