"""What a network of the sprites world has learned, as shares of right answers with intervals, chance and real clips.

Everything is asked about held-out subjects. ``own``: with the scene's own references; ``swapped``: with those of the
next scene, whose subjects the clip then has to show, while it moves as its own prompt says. ``both-ways``: a clip is
nearer to its own reference than to the swapped one, and the clip with the swapped reference nearer to that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from refeval.generators.wan.transformer import ReferenceTransformer
from refeval.sprites import Scene, Subject, sample_subject
from refeval.training.recipe import Recipe
from refeval.training.testbed.measures import CANDIDATES, Frames, colour_of, motion_is_right, nearest
from refeval.training.testbed.scenes import draw_scene, make_sample, plain_reference
from refeval.training.worlds import Measure, World

# Streams of held-out scenes: clips of a running training show the first ones of the training's own seed.
_SEED = 0x41535345
# What guessing gets: of four directions, ten colours, ten candidates; two answers out of two.
_CHANCE = {"motion": 0.25, "colour": 0.1, "identity": 1 / CANDIDATES, "lookalike": 1 / CANDIDATES, "both-ways": 0.25}


def assess(world: World, network: ReferenceTransformer, recipe: Recipe, *, clips: int, seed: int) -> list[Measure]:
    """Draw clips of held-out subjects and look at them.

    Args:
        world: of the recipe.
        network: in evaluation mode.
        recipe: which scenes there are.
        clips: of each number of subjects, with their own references, and as many with swapped ones.
        seed: of the noise; the scenes are always the same.
    """
    return [
        measure
        for subjects in recipe.testbed.subjects
        for measure in _assess(world, network, recipe, subjects, clips, seed)
    ]


def _assess(
    world: World, network: ReferenceTransformer, recipe: Recipe, subjects: int, clips: int, seed: int
) -> list[Measure]:
    scenes = [draw_scene(recipe, "held-out", _SEED, position, subjects) for position in range(clips)]
    others = [*scenes[1:], scenes[0]]
    own = _draw(world, network, recipe, scenes, scenes, seed)
    swapped = _draw(world, network, recipe, scenes, others, seed)
    real = [make_sample(scene, recipe, (), key="").frames for scene in scenes]
    right: Counter[tuple[str, str]] = Counter()
    for number, (scene, other) in enumerate(zip(scenes, others, strict=True)):
        for place in range(subjects):
            shown, instead = scene.actors[place].subject, other.actors[place].subject
            rng = np.random.default_rng([_SEED, number, place])
            for name, (first, truth) in _answers([own[number], real[number]], scene, place, shown, rng).items():
                right[name, "own"] += first
                right[name, "real"] += truth
            for name, (answer,) in _answers([swapped[number]], scene, place, instead, rng).items():
                right[name, "swapped"] += answer
            pair = nearest([own[number], swapped[number], real[number]], scene, place, (shown, instead))
            right["both-ways", "swapped"] += pair[:2] == [0, 1]
            # A real clip can be asked one of the two questions only.
            right["both-ways", "real"] += pair[2] == 0
    asked = clips * subjects
    return [
        Measure(
            name=name,
            subjects=subjects,
            references=references,
            right=right[name, references],
            asked=asked,
            chance=_CHANCE[name],
            real=right[name, "real"] / asked,
        )
        for references in ("own", "swapped")
        for name in _CHANCE
        if (name, references) != ("both-ways", "own")
    ]


def _answers(
    clips: Sequence[Frames], scene: Scene, place: int, subject: Subject, rng: np.random.Generator
) -> dict[str, list[bool]]:
    """Whether each clip is right about the subject in a place, by question."""
    strangers = (subject, *_others(subject, rng, same_colour=False))
    lookalikes = (subject, *_others(subject, rng, same_colour=True))
    return {
        "motion": [motion_is_right(frames, scene, place) for frames in clips],
        "colour": [colour_of(frames, scene, place) == subject.colour for frames in clips],
        "identity": [found == 0 for found in nearest(clips, scene, place, strangers)],
        "lookalike": [found == 0 for found in nearest(clips, scene, place, lookalikes)],
    }


def _draw(
    world: World, network: ReferenceTransformer, recipe: Recipe, scenes: list[Scene], shown: list[Scene], seed: int
) -> list[Frames]:
    samples = [
        make_sample(scene, recipe, tuple(plain_reference(actor.subject, recipe) for actor in other.actors), key="")
        for scene, other in zip(scenes, shown, strict=True)
    ]
    return [clip.frames for clip in world.draw(network, samples, seed=seed)]


def _others(subject: Subject, rng: np.random.Generator, *, same_colour: bool) -> tuple[Subject, ...]:
    found: list[Subject] = []
    while len(found) < CANDIDATES - 1:
        other = sample_subject(rng, [subject.kind])
        fits = other.colour == subject.colour or not same_colour
        if fits and other not in (subject, *found):
            found.append(other)
    return tuple(found)
