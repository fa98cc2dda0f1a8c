"""MotionAmplitude step by step as the official script works, to be measured against.

Written from the description of OpenS2V-Nexus eval/get_motion_amplitude.py at 210eb08: the same steps in the
same order, with everything kept that the script keeps. The Lucas-Kanade part follows the OpenCV tutorial; its
number is random by design and read by nobody, so only its work is of interest here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import decord
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]
_GRID_WIDTH = 16
_CORNERS = {"maxCorners": 100, "qualityLevel": 0.3, "minDistance": 7, "blockSize": 7}


@dataclass(frozen=True)
class Flow:
    """What is kept of every pair of frames: 19 bytes per pixel."""

    flow: Array
    magnitude: Array
    angle: Array
    picture: Array


def motion_amplitude(path: Path) -> float:
    """``motion_fb`` of a video file."""
    return amplitude_of(_decode(path))


def amplitude_of(frames: list[Image.Image]) -> float:
    """``motion_fb`` of all frames of a video."""
    fields = _farneback(frames)
    small = [_downscale(field.flow) for field in fields]
    _lucas_kanade(frames)
    return abs(float(np.mean(np.mean(small, axis=0))))


def _decode(path: Path) -> list[Image.Image]:
    reader = decord.VideoReader(str(path))
    return [Image.fromarray(reader[i].asnumpy()) for i in range(len(reader))]


def _grey(image: Image.Image) -> Array:
    return cv2.cvtColor(np.array(image), cv2.COLOR_BGR2GRAY)


def _farneback(frames: list[Image.Image]) -> list[Flow]:
    before = _grey(frames[0])
    hsv = np.zeros((*before.shape, 3), np.uint8)
    hsv[..., 1] = 255
    fields = []
    for frame in frames[1:]:
        after = _grey(frame)
        flow = cv2.calcOpticalFlowFarneback(before, after, None, 0.5, 3, 15, 3, 5, 1.2, 0)
        magnitude, angle = cv2.cartToPolar(flow[..., 0], flow[..., 1])
        hsv[..., 0] = angle * 180 / np.pi / 2
        hsv[..., 2] = cv2.normalize(magnitude, None, 0, 255, cv2.NORM_MINMAX)
        picture = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
        fields.append(Flow(flow=flow, magnitude=magnitude, angle=angle, picture=picture))
        before = after
    return fields


def _downscale(flow: Array) -> Array:
    height, width = flow.shape[:2]
    size = (_GRID_WIDTH, int(height * _GRID_WIDTH / width))
    return cv2.resize(flow, size, interpolation=cv2.INTER_AREA)


def _lucas_kanade(frames: list[Image.Image]) -> float:
    colours = np.random.default_rng().integers(0, 255, (100, 3))
    before = _grey(frames[0])
    points = cv2.goodFeaturesToTrack(before, mask=None, **_CORNERS)
    trails = np.zeros((*before.shape, 3), np.uint8)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 10, 0.03)
    for frame in frames[1:]:
        if points is None or not len(points):
            break
        after = _grey(frame)
        moved, found, _ = cv2.calcOpticalFlowPyrLK(
            before, after, points, None, winSize=(15, 15), maxLevel=2, criteria=criteria
        )
        kept = found.ravel() == 1
        for colour, old, new in zip(colours, points[kept], moved[kept], strict=False):
            start, end = old.ravel().astype(int).tolist(), new.ravel().astype(int).tolist()
            trails = cv2.line(trails, start, end, colour.tolist(), 2)
        before, points = after, moved[kept].reshape(-1, 1, 2)
    return float(trails.mean())
