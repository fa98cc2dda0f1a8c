"""MotionAmplitude: how much a clip moves, as OpenS2V-Eval measures it.

Source: OpenS2V-Nexus eval/get_motion_amplitude.py at 210eb08. Differs: the Lucas-Kanade part, whose result
nobody reads and which crashes on a flat first frame, and the colour picture of the flow are left out; pairs of
frames are worked on in parallel while the clip is decoded. The number is the same bits.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from refeval.cases import Case
from refeval.clips import AllFrames, Clip, Frame
from refeval.errors import UnusableClip
from refeval.metrics.base import Metric, Score

Grey = NDArray[np.uint8]
_GRID_WIDTH = 16


class MotionAmplitude(Metric):
    """Absolute mean of the signed Farneback flow over time, space and both axes.

    ``abs(mean(flow))`` with flow in pixels per frame, shape (T - 1, H', 16, 2), each field reduced to 16 cells
    across. Opposite motions cancel: a zoom, or a pan out and back, scores 0. Size and rate of the clip scale it.

    Range: 0 to 1 counts in totals (the value itself is not bounded). Higher is better.

    ``strict`` reads the mean magnitude of the flow at every pixel, in frame diagonals per second: nothing
    cancels, and size and rate do not matter.
    """

    id = "motion_amplitude"
    label = "MotionAmplitude"
    version = "1"
    range = (0.0, 1.0)
    frames = AllFrames()
    libraries = ("numpy", "opencv-python-headless")

    def score(self, case: Case, clip: Clip) -> Score:
        """Score one clip.

        Args:
            case: not used.
            clip: uint8 RGB, shape (T, H, W, 3), T >= 2.

        Raises:
            UnusableClip: fewer than two frames, or the picture is lower than a 16th of its width.
        """
        fields = flow_fields(clip)
        value = abs(float(signed_mean(fields)))
        diagonal = float(np.hypot(clip.width, clip.height))
        magnitude = float(np.mean([field.magnitude for field in fields]))
        return Score(
            value=value,
            strict_value=magnitude / diagonal * float(clip.fps),
            frames_used=len(fields) + 1,
            details={"magnitude_px_per_frame": magnitude, "width": clip.width, "height": clip.height},
        )


@dataclass(frozen=True)
class FlowField:
    """Optical flow between two frames.

    Attributes:
        cells: float32, shape (H', 16, 2), mean flow per cell in pixels.
        magnitude: mean length of the flow over all pixels.
    """

    cells: NDArray[np.float32]
    magnitude: float


def flow_fields(clip: Clip) -> list[FlowField]:
    """The flow between every two neighbouring frames, in order.

    Raises:
        UnusableClip: fewer than two frames, or the picture is lower than a 16th of its width.
    """
    if clip.height * _GRID_WIDTH < clip.width:
        raise UnusableClip(f"the picture is too flat for a grid of {_GRID_WIDTH} cells: {clip.width}x{clip.height}")
    fields = list(_in_parallel(clip))
    if not fields:
        raise UnusableClip("the clip has fewer than 2 frames: there is no motion to measure")
    return fields


def signed_mean(fields: list[FlowField]) -> np.float32:
    """Mean over pairs first, then over cells and axes: the official order, on which the last bits depend."""
    mean: np.float32 = np.mean(np.mean([field.cells for field in fields], axis=0))
    return mean


def grey(frame: Frame) -> Grey:
    """The brightness that the flow is measured on.

    The official code takes RGB for BGR: the weights of red and blue are swapped, and that is the protocol.

    Args:
        frame: uint8 RGB, shape (H, W, 3).
    """
    return cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY).astype(np.uint8, copy=False)


def optical_flow(before: Grey, after: Grey) -> NDArray[np.float32]:
    """Farneback flow with the official parameters, float32, shape (H, W, 2), (x, y) in pixels."""
    flow = np.empty((*before.shape, 2), np.float32)
    cv2.calcOpticalFlowFarneback(before, after, flow, 0.5, 3, 15, 3, 5, 1.2, 0)
    return flow


def _in_parallel(frames: Iterable[Frame]) -> Iterator[FlowField]:
    workers = _cores()
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[FlowField]] = deque()
    try:
        for before, after in pairwise(map(grey, frames)):
            # Few pairs in flight: decoding goes on meanwhile, and memory stays at a few frames.
            if len(waiting) == 2 * workers:
                yield waiting.popleft().result()
            waiting.append(pool.submit(_field, before, after))
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _cores() -> int:
    count = os.process_cpu_count() if hasattr(os, "process_cpu_count") else len(os.sched_getaffinity(0))
    return count or 1


def _field(before: Grey, after: Grey) -> FlowField:
    flow = optical_flow(before, after)
    height, width = before.shape
    size = (_GRID_WIDTH, int(height * _GRID_WIDTH / width))
    cells = cv2.resize(flow, size, interpolation=cv2.INTER_AREA).astype(np.float32, copy=False)
    # cv2.magnitude and cv2.mean differ in the last bits with the address of the array (Intel IPP).
    squares_hw2 = np.square(flow)
    length_hw = np.sqrt(squares_hw2[..., 0] + squares_hw2[..., 1])
    return FlowField(cells=cells, magnitude=float(np.mean(length_hw, dtype=np.float64)))
