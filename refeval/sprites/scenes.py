"""Scenes of the sprites world: who is where, how it moves, and the sentence that says so."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from refeval.sprites.backgrounds import Background
from refeval.sprites.subjects import Subject


class Motion(StrEnum):
    """How a subject moves during a clip; the frame shows it from the side of the viewer."""

    STILL = "still"
    LEFT = "left"
    RIGHT = "right"
    UP = "up"
    DOWN = "down"
    CLOSER = "closer"
    AWAY = "away"
    CIRCLE = "circle"
    SPIN = "spin"

    def phrase(self) -> str:
        """What a prompt says, e.g. ``moves to the left``."""
        return _PHRASES[self]


_PHRASES: Final = {
    Motion.STILL: "stays still",
    Motion.LEFT: "moves to the left",
    Motion.RIGHT: "moves to the right",
    Motion.UP: "moves up",
    Motion.DOWN: "moves down",
    Motion.CLOSER: "comes closer to the camera",
    Motion.AWAY: "goes away from the camera",
    Motion.CIRCLE: "moves in a circle",
    Motion.SPIN: "spins around",
}
_DIRECTIONS: Final = {Motion.LEFT: (-1, 0), Motion.RIGHT: (1, 0), Motion.UP: (0, -1), Motion.DOWN: (0, 1)}


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Where a subject is.

    Attributes:
        x: centre from the left, in widths of the frame.
        y: centre from the top, in heights of the frame.
        radius: half its height, in shorter sides of the frame.
        angle: clockwise turn in radians.
        mirror: whether left and right are swapped.
    """

    x: float = 0.5
    y: float = 0.5
    radius: float = 0.45
    angle: float = 0.0
    mirror: bool = False


@dataclass(frozen=True, kw_only=True)
class Actor:
    """A subject with its part in a scene.

    Attributes:
        subject: its identity.
        pose: in the middle of the clip (of a circle, its centre).
        motion: how it moves.
        amplitude: of left, right, up and down: the way, in widths or heights of the frame; of closer and
            away: the largest size over the smallest, less one; of circle: the diameter in shorter sides; of
            spin: full turns, clockwise.
    """

    subject: Subject
    pose: Pose
    motion: Motion = Motion.STILL
    amplitude: float = 0.0

    def pose_at(self, time: float, aspect: float = 1.0) -> Pose:
        """The pose at ``time``, 0 (first frame) to 1 (last), in a frame ``aspect`` times as wide as high."""
        pose, way = self.pose, self.amplitude * (time - 0.5)
        if self.motion in _DIRECTIONS:
            right, down = _DIRECTIONS[self.motion]
            return replace(pose, x=pose.x + right * way, y=pose.y + down * way)
        if self.motion in {Motion.CLOSER, Motion.AWAY}:
            sign = 1.0 if self.motion is Motion.CLOSER else -1.0
            growth = math.pow(1 + self.amplitude, sign * (time - 0.5))
            return replace(pose, radius=pose.radius * growth)
        if self.motion is Motion.SPIN:
            return replace(pose, angle=pose.angle + 2 * math.pi * self.amplitude * time)
        if self.motion is Motion.CIRCLE:
            turn, radius = 2 * math.pi * time, self.amplitude / 2
            wide, high = math.sin(turn) / max(1.0, aspect), math.cos(turn) / max(1.0, 1 / aspect)
            return replace(pose, x=pose.x + radius * wide, y=pose.y - radius * high)
        return pose


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A background and its actors, the nearest last."""

    background: Background
    actors: tuple[Actor, ...]

    def prompt(self) -> str:
        """One English sentence that names every subject, its motion and the background."""
        parts = [f"{actor.subject.describe()} {actor.motion.phrase()}" for actor in self.actors]
        listed = ", ".join(parts[:-1]) + ", while " + parts[-1] if len(parts) > 1 else parts[0]
        sentence = f"{listed}, {self.background.describe()}."
        return sentence[0].upper() + sentence[1:]
