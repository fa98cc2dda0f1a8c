"""Health of a clip: a black, frozen, short, wrong-sized or wrong-rate clip is failed with its reason, not scored."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from refeval.cases import ClipSpec
from refeval.clips import Frame
from refeval.errors import UnusableClip

# A cell is the mean over a tile of the picture; grain and coding noise average out, any visible change does not.
_GRID = (36, 64)
_BLACK_BELOW = 10.0
_FROZEN_BELOW = 2.0


class HealthCheck:
    """Sees the frames of one clip in order and judges the clip at the end.

    Black: no cell of any frame is brighter than 10 of 255. Frozen: no cell ever differs from the first
    frame by 2 levels.

    Args:
        expected: size, length and rate that the clip must have, or None.
        accept_lifeless: let black and frozen clips pass, as the official scripts do.
    """

    def __init__(self, expected: ClipSpec | None = None, *, accept_lifeless: bool = False) -> None:
        self._expected = expected
        self._accept_lifeless = accept_lifeless
        self._first: NDArray[np.float32] | None = None
        self._count = 0
        self._brightest = 0.0
        self._largest_change = 0.0
        self._size = (0, 0)

    def see(self, frame: Frame) -> None:
        """Take the next frame, uint8 RGB, shape (H, W, 3)."""
        self._count += 1
        self._size = (frame.shape[1], frame.shape[0])
        if self._alive:
            return
        size = (min(_GRID[1], frame.shape[1]), min(_GRID[0], frame.shape[0]))
        cells = cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        if self._first is None:
            self._first = cells
        self._brightest = max(self._brightest, float(cells.max()))
        self._largest_change = max(self._largest_change, float(np.abs(cells - self._first).max()))

    @property
    def _alive(self) -> bool:
        """Neither black nor frozen: nothing that follows can change that."""
        return self._brightest >= _BLACK_BELOW and self._largest_change >= _FROZEN_BELOW

    def finish(self, *, fps: Fraction) -> None:
        """Judge the clip.

        Raises:
            UnusableClip: with the reason.
        """
        if self._count < 2:
            raise UnusableClip(f"the clip has {self._count} frame; at least 2 are needed")
        if self._expected:
            _compare(self._expected, size=self._size, frames=self._count, fps=fps)
        if self._accept_lifeless or self._alive:
            return
        if self._brightest < _BLACK_BELOW:
            raise UnusableClip("every frame is black")
        raise UnusableClip("the clip is frozen: every frame shows the same picture")


def _compare(expected: ClipSpec, *, size: tuple[int, int], frames: int, fps: Fraction) -> None:
    if size != (expected.width, expected.height):
        raise UnusableClip(f"the size is {size[0]}x{size[1]}, expected {expected.width}x{expected.height}")
    if frames != expected.frames:
        raise UnusableClip(f"the clip has {frames} frames, expected {expected.frames}")
    if fps != expected.fps:
        raise UnusableClip(f"the rate is {fps} frames per second, expected {expected.fps}")
