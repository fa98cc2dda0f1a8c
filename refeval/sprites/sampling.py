"""Endless scenes from seeds.

Seeds: an int, or several ints that name a stream and a place in it (``[stream, index]``), go to
``numpy.random.default_rng``; a Generator is used as it is and moves on. The same seed gives the same scene
and, at the same size, the same bytes. Give training and validation streams of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from refeval.sprites.backgrounds import BACKGROUNDS, VARIANTS, Background
from refeval.sprites.scenes import Actor, Motion, Pose, Scene
from refeval.sprites.subjects import Subject, SubjectKind, pick, sample_subject

Seed = int | Sequence[int] | np.random.Generator

# Where one, two or three actors stand, (x, y) in the frame, and the half sides of the room each has.
_PLACES: Final = {
    1: ((0.5, 0.5),),
    2: ((0.26, 0.5), (0.74, 0.5)),
    3: ((0.26, 0.28), (0.74, 0.28), (0.5, 0.74)),
}
_ROOM: Final = {1: (0.5, 0.5), 2: (0.26, 0.5), 3: (0.26, 0.27)}
_RADIUS: Final = {1: 0.27, 2: 0.19, 3: 0.165}
# Hair and outlines reach a little beyond the radius.
_BULGE: Final = 1.1
# People are slim: of one height with the others they would look small.
_HUMAN_SIZE: Final = 1.2
_WAY_X: Final = {1: 0.42, 2: 0.22, 3: 0.2}
_WAY_Y: Final = {1: 0.42, 2: 0.42, 3: 0.2}


def sample_scene(
    seed: Seed,
    *,
    count: int | None = None,
    kinds: Iterable[SubjectKind] = SubjectKind,
    motions: Iterable[Motion] = Motion,
    backgrounds: Iterable[str] = BACKGROUNDS,
    freedom: float = 1.0,
) -> Scene:
    """Draw a scene.

    Args:
        seed: see the module.
        count: number of subjects, 1 to 3; None draws it.
        kinds: what the kind of every subject is chosen from.
        motions: what every motion is chosen from.
        backgrounds: what the kind of the background is chosen from.
        freedom: 0 (every subject upright in its place, of one size) to 1 (wherever it fits).

    Returns:
        a scene whose subjects differ in their main colours.
    """
    rng = np.random.default_rng(seed)
    background = sample_background(rng, backgrounds)
    wanted = count or 1 + int(rng.integers(3))
    subjects: list[Subject] = []
    while len(subjects) < wanted:
        subject = sample_subject(rng, kinds)
        # Two subjects of one colour could not be told apart in a small clip.
        if subject.colour not in {other.colour for other in subjects}:
            subjects.append(subject)
    choice = tuple(motions)
    return arrange(rng, background, subjects, [pick(rng, choice) for _ in subjects], freedom=freedom)


def sample_background(rng: np.random.Generator, kinds: Iterable[str] = BACKGROUNDS) -> Background:
    """Draw a background of one of ``kinds``."""
    return Background(kind=pick(rng, tuple(kinds)), variant=int(rng.integers(VARIANTS)))


def arrange(
    rng: np.random.Generator,
    background: Background,
    subjects: Sequence[Subject],
    motions: Sequence[Motion],
    *,
    freedom: float = 1.0,
) -> Scene:
    """Give one to three subjects places in which their motions fit the frame.

    Args:
        rng: draws places, sizes and tilts.
        background: of the scene.
        subjects: one to three.
        motions: one for each subject.
        freedom: as for :func:`sample_scene`.

    Raises:
        ValueError: no subject, more than three, or not as many motions.
    """
    if len(subjects) not in _PLACES or len(motions) != len(subjects):
        raise ValueError(f"{len(subjects)} subjects with {len(motions)} motions; a scene has 1 to 3 of each")
    places = [_PLACES[len(subjects)][index] for index in rng.permutation(len(subjects))]
    actors = (
        _place(rng, subject, motion, place, len(subjects), freedom)
        for subject, motion, place in zip(subjects, motions, places, strict=True)
    )
    return Scene(background=background, actors=tuple(actors))


def _place(
    rng: np.random.Generator,
    subject: Subject,
    motion: Motion,
    place: tuple[float, float],
    count: int,
    freedom: float,
) -> Actor:
    shift_x, shift_y, size, tilt, flip, strength = (float(value) * 2 - 1 for value in rng.random(6))
    radius = _RADIUS[count] * (1 + 0.12 * freedom * size)
    if subject.kind is SubjectKind.HUMAN:
        radius *= _HUMAN_SIZE
    amplitude = _amplitude(motion, count) * (1 + 0.1 * freedom * strength)
    way_x = amplitude if motion in {Motion.LEFT, Motion.RIGHT, Motion.CIRCLE} else 0.0
    way_y = amplitude if motion in {Motion.UP, Motion.DOWN, Motion.CIRCLE} else 0.0
    largest = _BULGE * radius * (1.4 if motion in {Motion.CLOSER, Motion.AWAY} else 1.0)
    room_x, room_y = (
        max(0.0, room - largest - way / 2) for room, way in zip(_ROOM[count], (way_x, way_y), strict=True)
    )
    lean = 0.25 if subject.kind is SubjectKind.OBJECT else 0.1
    # Cars and fish look the way they go.
    mirror = motion is Motion.LEFT or (motion is not Motion.RIGHT and freedom > 0 and flip > 0)
    pose = Pose(
        x=place[0] + freedom * shift_x * room_x,
        y=place[1] + freedom * shift_y * room_y,
        radius=radius,
        angle=freedom * lean * tilt,
        mirror=mirror,
    )
    return Actor(subject=subject, pose=pose, motion=motion, amplitude=amplitude)


def _amplitude(motion: Motion, count: int) -> float:
    if motion in {Motion.LEFT, Motion.RIGHT}:
        return _WAY_X[count]
    if motion in {Motion.UP, Motion.DOWN}:
        return _WAY_Y[count]
    return {Motion.CLOSER: 0.9, Motion.AWAY: 0.9, Motion.SPIN: 0.9, Motion.CIRCLE: 0.9 * _WAY_X[count]}.get(motion, 0.0)
