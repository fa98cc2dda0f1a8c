"""Clips as raters see them: every arm in one size, rate and length, without metadata, under the name of its sha256."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
from PIL import Image

from refeval.clips import Clip, Frame, encode_clip, open_clip
from refeval.errors import BadInput, UnusableClip
from refeval.runs import Run
from refeval.studies.design import Shown
from refeval.studies.study import ClipProfile
from refeval.thumbnails import jpeg

CRF = 18
"""Near the eye's threshold: what differs between arms survives, and a sheet stays small enough to be sent."""

_SMALLEST_SIDE = 16
_STILL_PARTS = (0.0, 0.5, 1.0)
_STILL_SIDE = 960
_STILL_QUALITY = 82


@dataclass(frozen=True, kw_only=True)
class EncodedClip:
    """A clip of the study.

    Attributes:
        name: first half of the sha256 of its bytes; tells nothing to who does not have the bytes.
        content: MP4.
        stills: JPEG, the first, middle and last frame side by side.
    """

    name: str
    content: bytes
    stills: bytes


@dataclass(frozen=True, kw_only=True)
class _Facts:
    width: int
    height: int
    fps: Fraction
    frames: int


class Footage:
    """The clips of a study, encoded when they are asked for.

    The profile is the smallest width, height and rate of any arm; a clip of another shape is fitted in and padded
    with black. On one case all arms last as long as the shortest.

    Args:
        arms: the runs, in the order of their numbers.
        cases: ids of cases that are rendered in all of them.

    Raises:
        BadInput: a clip that cannot be decoded.
    """

    def __init__(self, arms: Sequence[Run], cases: Sequence[str]) -> None:
        self._arms = arms
        self._facts = {(arm, case): _facts(run, case) for arm, run in enumerate(arms) for case in cases}
        facts = list(self._facts.values())
        self._fps = min(one.fps for one in facts)
        self._seconds = {
            case: min(self._facts[arm, case].frames / self._facts[arm, case].fps for arm in range(len(arms)))
            for case in cases
        }
        self.profile = ClipProfile(
            width=_even(min(one.width for one in facts)),
            height=_even(min(one.height for one in facts)),
            fps=str(self._fps),
            crf=CRF,
        )

    @property
    def differing(self) -> list[str]:
        """In what the arms differ, so that some clips are changed for the study: size, rate, length."""
        facts = self._facts.values()
        return [
            what
            for what, values in (
                ("size", {(one.width, one.height) for one in facts}),
                ("frames per second", {one.fps for one in facts}),
                ("length", {one.frames / one.fps for one in facts}),
            )
            if len(values) > 1
        ]

    def encode(self, shown: Shown) -> EncodedClip:
        """A clip as the raters see it.

        Raises:
            BadInput: it cannot be decoded.
        """
        frames = self._frames(shown)
        content = encode_clip(frames, self._fps, crf=CRF)
        name = hashlib.sha256(content).hexdigest()[:32]
        return EncodedClip(name=name, content=content, stills=_stills(frames))

    def _frames(self, shown: Shown) -> list[Frame]:
        clip = _open(self._arms[shown.arm], shown.case)
        step = clip.fps / self._fps
        count = max(1, int(self._seconds[shown.case] * self._fps))
        try:
            source = clip.frames
        except UnusableClip as error:
            raise _unusable(self._arms[shown.arm], shown.case, error) from error
        if shown.frozen:
            return [self._fit(_coarse(source[0]))] * count
        return [self._fit(source[min(int(place * step), len(source) - 1)]) for place in range(count)]

    def _fit(self, frame: Frame) -> Frame:
        width, height = self.profile.width, self.profile.height
        if frame.shape[:2] == (height, width):
            return frame
        scale = min(width / frame.shape[1], height / frame.shape[0])
        size = (max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale)))
        # For one size smaller than the source this averages, so that fine patterns do not flicker.
        small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        page = np.zeros((height, width, 3), np.uint8)
        top, left = (height - size[1]) // 2, (width - size[0]) // 2
        page[top : top + size[1], left : left + size[0]] = small
        return page


def _facts(run: Run, case: str) -> _Facts:
    clip = _open(run, case)
    record = run.render_record(case)
    known = (record.clip or {}).get("frames") if record else None
    try:
        frames = known if isinstance(known, int) else sum(1 for _ in clip)
    except UnusableClip as error:
        raise _unusable(run, case, error) from error
    return _Facts(width=clip.width, height=clip.height, fps=clip.fps, frames=frames)


def _open(run: Run, case: str) -> Clip:
    try:
        return open_clip(run.clip_path(case))
    except UnusableClip as error:
        raise _unusable(run, case, error) from error


def _unusable(run: Run, case: str, error: UnusableClip) -> BadInput:
    what = f"{run.folder}: the clip of case '{case}' cannot be shown: {error.what}"
    return BadInput(what, cure=f"refeval check {run.folder}")


def _even(side: int) -> int:
    return max(_SMALLEST_SIDE, side - side % 2)


def _coarse(frame: Frame) -> Frame:
    """A picture as if seen through frosted glass: nobody who looks takes it for the better one."""
    height, width = frame.shape[:2]
    small = cv2.resize(frame, (max(1, width // 12), max(1, height // 12)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _stills(frames: Sequence[Frame]) -> bytes:
    chosen = [frames[int(part * (len(frames) - 1))] for part in _STILL_PARTS]
    gap = np.full((chosen[0].shape[0], max(2, chosen[0].shape[1] // 48), 3), 255, np.uint8)
    strip = np.hstack([chosen[0], gap, chosen[1], gap, chosen[2]])
    return jpeg(Image.fromarray(strip), side=_STILL_SIDE, quality=_STILL_QUALITY)
