"""Whether a clip shows what it was asked for: the motion that the prompt tells, the subject that the reference shows.

Every measure is a question with one right answer of several, asked of clips of scenes whose truth is known. Drawings
that clips are held against do not have the poses of the scene: a real clip does not score 1 by being equal to itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from refeval.sprites import Actor, Motion, Scene, Subject, arrange, colour_votes, draw_clip
from refeval.training.testbed.scenes import foreground

CANDIDATES = 10
# Where drawings are tried, in pixels of the clip: to the right, down.
_SHIFTS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))

Frames = NDArray[np.uint8]


def motion_is_right(frames: Frames, scene: Scene, index: int) -> bool:
    """Whether the way of a subject from the first frames to the last is mostly in the direction of the prompt."""
    shown = foreground(frames, scene) & _place(frames, scene, index)
    rows, columns = np.nonzero(np.ones(frames.shape[1:3], bool))
    centres = []
    for frame in (0, 1, -2, -1):
        mask = shown[frame].ravel()
        if not mask.any():
            return False
        centres.append((columns[mask].mean(), rows[mask].mean()))
    right, down = np.mean(centres[2:], axis=0) - np.mean(centres[:2], axis=0)
    if abs(right) > abs(down):
        seen = Motion.RIGHT if right > 0 else Motion.LEFT
    else:
        seen = Motion.DOWN if down > 0 else Motion.UP
    return seen is scene.actors[index].motion


def colour_of(frames: Frames, scene: Scene, index: int) -> str | None:
    """The main colour, of ten, that most pixels of a subject are nearest to; None where nothing is seen."""
    pixels = frames[foreground(frames, scene) & _place(frames, scene, index)]
    votes = colour_votes(pixels) if len(pixels) else {}
    return max(votes, key=votes.__getitem__) if any(votes.values()) else None


def nearest(clips: Sequence[Frames], scene: Scene, index: int, candidates: Sequence[Subject]) -> list[int]:
    """Which candidate a subject looks most like, in each of several clips of one scene.

    Each is drawn in the place of the subject, upright and in the middle of its room or a pixel beside it, moving as the
    prompt says; the one whose best drawing differs least from the frames, pixel by pixel, is it.

    Returns:
        its number, for every clip.
    """
    place = _place(clips[0], scene, index)
    seen = [frames.astype(np.int16) for frames in clips]
    apart = np.empty((len(clips), len(candidates)))
    for number, subject in enumerate(candidates):
        drawings = _drawings(scene, index, subject, clips[0].shape)
        for clip, frames in enumerate(seen):
            apart[clip, number] = min(_difference(frames, drawn, place) for drawn in drawings)
    return [int(number) for number in apart.argmin(axis=1)]


def _difference(seen: NDArray[np.int16], drawn: Frames, place: NDArray[np.bool_]) -> float:
    return float(np.abs(seen - drawn).sum(axis=-1)[:, place].mean())


def _drawings(scene: Scene, index: int, subject: Subject, shape: tuple[int, ...]) -> list[Frames]:
    frames, height, width, _ = shape
    middle = _upright(scene, index, subject)
    found = []
    for right, down in _SHIFTS:
        pose = replace(middle.pose, x=middle.pose.x + right / width, y=middle.pose.y + down / height)
        alone = Scene(background=scene.background, actors=(replace(middle, pose=pose),))
        found.append(draw_clip(alone, frames, height, width))
    return found


def _upright(scene: Scene, index: int, subject: Subject) -> Actor:
    """The candidate as an actor of no freedom, in the place that is nearest to the subject's."""
    actor = scene.actors[index]
    # The subject of the others does not matter; the size follows from how many there are, and from the kind.
    subjects = [subject] * len(scene.actors)
    still = arrange(np.random.default_rng(0), scene.background, subjects, [actor.motion] * len(subjects), freedom=0.0)
    return min(
        still.actors,
        key=lambda one: (one.pose.x - actor.pose.x) ** 2 + (one.pose.y - actor.pose.y) ** 2,
    )


def _place(frames: Frames, scene: Scene, index: int) -> NDArray[np.bool_]:
    """Pixels (H, W) that are nearer to the middle of this subject's way than to any other's."""
    height, width = frames.shape[1:3]
    rows, columns = np.mgrid[0:height, 0:width]
    distances = [
        ((columns + 0.5) / width - actor.pose.x) ** 2 + ((rows + 0.5) / height - actor.pose.y) ** 2
        for actor in scene.actors
    ]
    nearest_one: NDArray[np.bool_] = np.argmin(distances, axis=0) == index
    return nearest_one
