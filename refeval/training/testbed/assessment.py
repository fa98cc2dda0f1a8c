"""What a network of the sprites world has learned, as shares of right answers with intervals, chance and real clips.

Everything is asked about held-out subjects. ``own``: with the scene's own references; ``swapped``: with those of the
next scene, whose subjects the clip then has to show, while it moves as its own prompt says. ``both-ways``: a clip is
nearer to its own reference than to the swapped one, and the clip with the swapped reference nearer to that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from refeval.generators.wan.transformer import ReferenceTransformer
from refeval.sprites import Scene, Subject, sample_subject
from refeval.training.recipe import Recipe
from refeval.training.testbed.measures import CANDIDATES, Frames, colour_of, motion_is_right, nearest
from refeval.training.testbed.scenes import draw_scene, make_sample, plain_reference
from refeval.training.worlds import Measure, World

# Streams of held-out scenes: clips of a running training show the first ones of the training's own seed.
_SEED = 0x41535345
_OWN, _SWAPPED = "own", "swapped"


@dataclass(frozen=True)
class _Asked:
    """A subject of a clip, and whom it should show."""

    scene: Scene
    index: int
    subject: Subject
    strangers: tuple[Subject, ...]
    lookalikes: tuple[Subject, ...]


Question = Callable[[Frames, _Asked], bool]
_QUESTIONS: dict[str, tuple[Question, float]] = {
    "motion": (lambda frames, asked: motion_is_right(frames, asked.scene, asked.index), 0.25),
    "colour": (lambda frames, asked: colour_of(frames, asked.scene, asked.index) == asked.subject.colour, 0.1),
    "identity": (lambda frames, asked: _is_first(frames, asked, asked.strangers), 1 / CANDIDATES),
    "lookalike": (lambda frames, asked: _is_first(frames, asked, asked.lookalikes), 1 / CANDIDATES),
}


def assess(world: World, network: ReferenceTransformer, recipe: Recipe, *, clips: int, seed: int) -> list[Measure]:
    """Draw clips of held-out subjects and look at them.

    Args:
        world: of the recipe.
        network: in evaluation mode.
        recipe: which scenes there are.
        clips: of each number of subjects, with their own references, and as many with swapped ones.
        seed: of the noise; the scenes are always the same.
    """
    measures: list[Measure] = []
    for subjects in recipe.testbed.subjects:
        scenes = [draw_scene(recipe, "held-out", _SEED, position, subjects) for position in range(clips)]
        shown = {_OWN: scenes, _SWAPPED: [*scenes[1:], scenes[0]]}
        drawn = {name: _draw(world, network, recipe, scenes, shown[name], seed) for name in shown}
        real = [make_sample(scene, recipe, (), key="").frames for scene in scenes]
        for references, wanted in shown.items():
            asked = [_ask(scene, other, references) for scene, other in zip(scenes, wanted, strict=True)]
            truth = [_ask(scene, scene, references) for scene in scenes]
            for name, (question, chance) in _QUESTIONS.items():
                right = _count(question, drawn[references], asked)
                measures.append(
                    Measure(
                        name=name,
                        subjects=subjects,
                        references=references,
                        right=right,
                        asked=clips * subjects,
                        chance=chance,
                        real=_count(question, real, truth) / (clips * subjects),
                    )
                )
        measures.append(_both_ways(scenes, drawn, real, subjects))
    return measures


def _both_ways(scenes: list[Scene], drawn: dict[str, list[Frames]], real: list[Frames], subjects: int) -> Measure:
    """Whether a clip is nearer to its own reference than to the next one's, and the other way round when swapped."""
    right = truth = 0
    for index, scene in enumerate(scenes):
        other = scenes[(index + 1) % len(scenes)]
        for place in range(subjects):
            pair = (scene.actors[place].subject, other.actors[place].subject)
            own = nearest(drawn[_OWN][index], scene, place, pair) == 0
            swapped = nearest(drawn[_SWAPPED][index], scene, place, pair) == 1
            right += own and swapped
            truth += nearest(real[index], scene, place, pair) == 0
    asked = len(scenes) * subjects
    # Real clips can be asked one of the two questions only.
    return Measure(
        name="both-ways",
        subjects=subjects,
        references=_SWAPPED,
        right=right,
        asked=asked,
        chance=0.25,
        real=truth / asked,
    )


def _draw(
    world: World, network: ReferenceTransformer, recipe: Recipe, scenes: list[Scene], shown: list[Scene], seed: int
) -> list[Frames]:
    samples = [
        make_sample(scene, recipe, tuple(plain_reference(actor.subject, recipe) for actor in other.actors), key="")
        for scene, other in zip(scenes, shown, strict=True)
    ]
    return [clip.frames for clip in world.draw(network, samples, seed=seed)]


def _ask(scene: Scene, shown: Scene, references: str) -> list[_Asked]:
    rng = np.random.default_rng([_SEED, *references.encode()])
    return [
        _Asked(
            scene,
            index,
            actor.subject,
            _others(actor.subject, rng, same_colour=False),
            _others(actor.subject, rng, same_colour=True),
        )
        for index, actor in enumerate(shown.actors)
    ]


def _others(subject: Subject, rng: np.random.Generator, *, same_colour: bool) -> tuple[Subject, ...]:
    found: list[Subject] = []
    while len(found) < CANDIDATES - 1:
        other = sample_subject(rng, [subject.kind])
        fits = other.colour == subject.colour or not same_colour
        if fits and other not in (subject, *found):
            found.append(other)
    return tuple(found)


def _is_first(frames: Frames, asked: _Asked, others: tuple[Subject, ...]) -> bool:
    return nearest(frames, asked.scene, asked.index, (asked.subject, *others)) == 0


def _count(question: Question, clips: Sequence[Frames], asked: Sequence[list[_Asked]]) -> int:
    return sum(question(frames, one) for frames, ones in zip(clips, asked, strict=True) for one in ones)
