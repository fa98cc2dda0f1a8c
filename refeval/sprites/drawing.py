"""Pixels of the sprites world: clips of scenes and reference images, at any size from 16 pixels up."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from refeval.sprites.backgrounds import paint_background
from refeval.sprites.brush import Brush
from refeval.sprites.objects import paint_object
from refeval.sprites.people import paint_face, paint_human
from refeval.sprites.scenes import Actor, Pose, Scene
from refeval.sprites.shapes import Array
from refeval.sprites.subjects import Subject, SubjectKind

_PAINTERS: Final = {
    SubjectKind.FACE: paint_face,
    SubjectKind.HUMAN: paint_human,
    SubjectKind.OBJECT: paint_object,
}
# Every subject lies within this many radii of its centre.
_REACH: Final = 1.35
# Painting a few thousand pixels at a time stays in the cache of a core.
_CHUNK_PIXELS: Final = 8_192
_REFERENCE_POSE: Final = Pose(x=0.5, y=0.5, radius=0.45)


def draw_clip(scene: Scene, frames: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Draw a scene from its first moment to its last.

    The background stands still, so pixels that differ from :func:`draw_background` are the subjects.

    Args:
        scene: what to draw.
        frames: how many frames, 1 or more; a single one shows the middle of the motion.
        height: pixels, 16 or more.
        width: pixels, 16 or more.

    Returns:
        uint8 RGB, shape (frames, height, width, 3).

    Raises:
        ValueError: no frame, or a side below 16 pixels.
    """
    _check_size(frames, height, width)
    background = paint_background(scene.background, height, width)
    rgb = np.empty((3, frames, height, width), np.float32)
    rgb[...] = background
    times = [index / (frames - 1) for index in range(frames)] if frames > 1 else [0.5]
    for actor in scene.actors:
        _paint_actor(rgb, actor, times)
    return _to_bytes(rgb)


def draw_reference(subject: Subject, height: int, width: int, pose: Pose = _REFERENCE_POSE) -> npt.NDArray[np.uint8]:
    """Draw a subject on white.

    Returns:
        uint8 RGB, shape (height, width, 3).

    Raises:
        ValueError: a side below 16 pixels.
    """
    _check_size(1, height, width)
    rgb = np.full((3, 1, height, width), 255, np.float32)
    _paint_subject(rgb, subject, [pose])
    frame: npt.NDArray[np.uint8] = _to_bytes(rgb)[0]
    return frame


def _check_size(frames: int, height: int, width: int) -> None:
    if frames < 1 or min(height, width) < 16:
        raise ValueError(f"{frames} frames of {width}x{height}; at least 1 frame of 16x16 can be drawn")


def _to_bytes(rgb: Array) -> npt.NDArray[np.uint8]:
    # Adding a half turns the cut of the conversion into rounding.
    return np.ascontiguousarray((rgb + 0.5).astype(np.uint8).transpose(1, 2, 3, 0))


def _paint_actor(rgb: Array, actor: Actor, times: list[float]) -> None:
    _, _, height, width = rgb.shape
    step = max(1, _CHUNK_PIXELS // (height * width))
    for start in range(0, len(times), step):
        poses = [actor.pose_at(time, width / height) for time in times[start : start + step]]
        _paint_subject(rgb[:, start : start + step], actor.subject, poses)


def _paint_subject(rgb: Array, subject: Subject, poses: list[Pose]) -> None:
    """Paint one subject into frames that each have a pose, within the box that holds all of them."""
    _, _, height, width = rgb.shape
    radii = [pose.radius * min(height, width) for pose in poses]
    left, right = _span([pose.x * width for pose in poses], radii, width)
    top, bottom = _span([pose.y * height for pose in poses], radii, height)
    if left >= right or top >= bottom:
        return
    part = np.ascontiguousarray(rgb[:, :, top:bottom, left:right])
    x = np.arange(left, right, dtype=np.float32).reshape(1, 1, -1) + 0.5
    y = np.arange(top, bottom, dtype=np.float32).reshape(1, -1, 1) + 0.5
    across, down = (
        x - _column([pose.x * width for pose in poses]),
        y - _column([pose.y * height for pose in poses]),
    )
    turn_x, turn_y = [math.cos(pose.angle) for pose in poses], [math.sin(pose.angle) for pose in poses]
    side = [-1 if pose.mirror else 1 for pose in poses]
    brush = Brush(
        rgb=part,
        x=across * _column([s * c / r for s, c, r in zip(side, turn_x, radii, strict=True)])
        + down * _column([s * n / r for s, n, r in zip(side, turn_y, radii, strict=True)]),
        y=down * _column([c / r for c, r in zip(turn_x, radii, strict=True)])
        - across * _column([n / r for n, r in zip(turn_y, radii, strict=True)]),
        pixels=_column(radii),
    )
    _PAINTERS[subject.kind](brush, subject)
    rgb[:, :, top:bottom, left:right] = part


def _span(centres: list[float], radii: list[float], size: int) -> tuple[int, int]:
    first = min(centre - _REACH * radius for centre, radius in zip(centres, radii, strict=True))
    last = max(centre + _REACH * radius for centre, radius in zip(centres, radii, strict=True))
    return max(0, math.floor(first) - 1), min(size, math.ceil(last) + 1)


def _column(values: list[float]) -> Array:
    return np.asarray(values, np.float32).reshape(-1, 1, 1)
