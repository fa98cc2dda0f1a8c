"""Endless samples of the sprites world: a scene, its clip, and references of its subjects.

A subject belongs to the training or is held out by a hash of its looks, so that no order of drawing changes which.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from refeval.sprites import (
    Actor,
    Motion,
    Pose,
    Scene,
    Subject,
    SubjectKind,
    draw_background,
    draw_clip,
    draw_reference,
    sample_scene,
)
from refeval.training.data.augmentation import augment
from refeval.training.examples import PairKind, Sample, Source, Stream, generator
from refeval.training.recipe import Recipe

MOTIONS = (Motion.LEFT, Motion.RIGHT, Motion.UP, Motion.DOWN)
REFERENCE_SCALE = 4
"""References are drawn this many times as large as clips, for a teacher whose patches have 16 pixels."""

Part = Literal["training", "held-out"]
_HELD_OUT_SHARE = 10
# Streams of seeds of their own: scenes to train on, and scenes to test with.
_STREAMS: dict[Part, int] = {"training": 0x54524149, "held-out": 0x48454C44}
_TURN = 0.25
_RADIUS = 0.45


def is_held_out(subject: Subject) -> bool:
    """Whether no training sample shows this subject: one in ten."""
    return hashlib.sha256(repr(subject).encode()).digest()[0] % _HELD_OUT_SHARE == 0


def draw_scene(recipe: Recipe, part: Part, seed: int, position: int, subjects: int | None = None) -> Scene:
    """The scene at a position of a stream.

    Args:
        recipe: what scenes have in them.
        part: whose subjects; all of a scene's are of it.
        seed: of the stream.
        position: in the stream.
        subjects: how many; None: drawn from the recipe's numbers.
    """
    testbed = recipe.testbed
    rng = np.random.default_rng([_STREAMS[part], seed, position])
    count = subjects or testbed.subjects[int(rng.integers(len(testbed.subjects)))]
    while True:
        scene = sample_scene(
            rng,
            count=count,
            kinds=tuple(SubjectKind(kind) for kind in testbed.kinds),
            motions=MOTIONS,
            backgrounds=testbed.backgrounds,
            freedom=testbed.freedom,
        )
        if all(is_held_out(actor.subject) == (part == "held-out") for actor in scene.actors):
            # The prompt tells the kind of a background; where its clouds are, nothing tells.
            scene = replace(scene, background=replace(scene.background, variant=0))
            # Nor does it tell who stands where: in the order of the references, from the left, then from above.
            return replace(scene, actors=tuple(sorted(scene.actors, key=lambda actor: (actor.pose.x, actor.pose.y))))


def foreground(frames: NDArray[np.uint8], scene: Scene) -> NDArray[np.bool_]:
    """Where frames (T, H, W, 3) differ clearly from the scene's background, (T, H, W)."""
    behind = draw_background(scene.background, *frames.shape[1:3]).astype(np.int16)
    found: NDArray[np.bool_] = np.abs(frames.astype(np.int16) - behind).max(axis=-1) > 40
    return found


def plain_reference(subject: Subject, recipe: Recipe) -> NDArray[np.uint8]:
    """A subject upright on white, as references are given at inference."""
    height, width = reference_size(recipe)
    return draw_reference(subject, height, width)


class SpritesSource(Source):
    """Samples to train on, without an end.

    Args:
        recipe: what they have in them.
        seed: of the training.
    """

    def __init__(self, recipe: Recipe, seed: int) -> None:
        self._recipe = recipe
        self._seed = seed

    def sample(self, position: int) -> Sample:
        """As for every source; none is ever broken."""
        scene = draw_scene(self._recipe, "training", self._seed, position)
        rng = generator(self._seed, position, Stream.AUGMENTATION)
        pair: PairKind = "cross" if rng.random() < self._recipe.data.cross_share else "regular"
        references = tuple(self._reference(actor, pair, rng) for actor in scene.actors)
        return make_sample(scene, self._recipe, references, key=f"sprites-{position}", pair=pair)

    def _reference(self, actor: Actor, pair: PairKind, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Regular: cut out as the clip shows the subject, then augmented; cross: seen on another occasion."""
        height, width = reference_size(self._recipe)
        if pair == "cross":
            pose = Pose(radius=_RADIUS, angle=_TURN * float(rng.uniform(-1, 1)), mirror=bool(rng.random() < 0.5))
            return draw_reference(actor.subject, height, width, pose)
        pose = Pose(radius=_RADIUS, angle=actor.pose.angle, mirror=actor.pose.mirror)
        picture = draw_reference(actor.subject, height, width, pose)
        return augment(picture, self._recipe.data.augmentation, rng) if self._recipe.data.augment else picture


def make_sample(
    scene: Scene, recipe: Recipe, references: tuple[NDArray[np.uint8], ...], *, key: str, pair: PairKind = "cross"
) -> Sample:
    """A sample of a scene; its error counts more where a subject is."""
    data = recipe.data
    frames = draw_clip(scene, data.frames, data.height, data.width)
    weights = np.where(foreground(frames, scene), recipe.testbed.foreground, 1.0).astype(np.float32)
    return Sample(key=key, prompt=scene.prompt(), frames=frames, references=references, pair=pair, emphasis=weights)


def reference_size(recipe: Recipe) -> tuple[int, int]:
    """Height and width of references in pixels."""
    return recipe.data.height * REFERENCE_SCALE, recipe.data.width * REFERENCE_SCALE
