"""What the plug-in generators of the tests have in common: no references, small moving clips, a trace of calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from refeval.cases import Case, ClipSpec
from refeval.clips import Clip, Frame
from refeval.generators.base import Generator

SMALL_CLIP = ("--size", "64x48", "--frames", "6")
PATIENCE_S = 20.0


class SmallGenerator(Generator):
    """Renders a moving square; the argument is the folder, or the mode, of the test."""

    version = "1"

    def __init__(self, argument: str) -> None:
        self.argument = argument

    @classmethod
    def from_argument(cls, argument: str | None) -> SmallGenerator:
        return cls(argument or "")

    def inputs(self, case: Case) -> list[Path]:
        return []


def moving_clip(spec: ClipSpec) -> Clip:
    """A white square that moves to the right."""
    return Clip.from_frames(np.stack(list(_squares(spec))), spec.fps)


def clip_after(spec: ClipSpec, before: Callable[[], object]) -> Clip:
    """The same clip, decoded when it is asked for, after ``before()``: an encoding that takes its time."""
    return Clip(_Stream(spec, before))


def wait_for(there: Path, patience_s: float = PATIENCE_S) -> bool:
    """Wait until a file is there; False when the patience is at its end."""
    deadline = time.monotonic() + patience_s
    while not there.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def _squares(spec: ClipSpec) -> Iterator[Frame]:
    for index in range(spec.frames):
        frame = np.zeros((spec.height, spec.width, 3), np.uint8)
        frame[16:32, 4 + 4 * index : 20 + 4 * index] = 255
        yield frame


class _Stream:
    def __init__(self, spec: ClipSpec, before: Callable[[], Any]) -> None:
        self.fps: Fraction = spec.fps
        self.width, self.height, self.announced = spec.width, spec.height, spec.frames
        self._spec = spec
        self._before = before

    def decode(self) -> Iterator[Frame]:
        self._before()
        return _squares(self._spec)
