"""References of one subject from several sides, to see whether the network tells subjects apart."""

from __future__ import annotations

import numpy as np

from refeval.sprites import Pose, draw_reference
from refeval.training.examples import Encoder
from refeval.training.recipe import Recipe
from refeval.training.testbed.scenes import REFERENCE_SCALE, draw_scene, make_sample
from refeval.training.worlds import View

_SUBJECTS, _EACH = 12, 6
_SEED = 0x56494557


def held_out_views(recipe: Recipe, encoder: Encoder) -> list[View]:
    """Held-out subjects, each turned, mirrored and at several sizes; clip and prompt are the same in all views.

    The first subjects of the stream are taken, so that two of them may be alike in colour.
    """
    side = (recipe.data.height * REFERENCE_SCALE, recipe.data.width * REFERENCE_SCALE)
    scenes = [draw_scene(recipe, "held-out", _SEED, position, subjects=1) for position in range(_SUBJECTS)]
    samples, names = [], []
    for number, scene in enumerate(scenes):
        rng = np.random.default_rng([_SEED, number])
        for _ in range(_EACH):
            pose = Pose(
                radius=float(rng.uniform(0.38, 0.48)),
                angle=float(rng.uniform(-0.4, 0.4)),
                mirror=bool(rng.random() < 0.5),
            )
            picture = draw_reference(scene.actors[0].subject, *side, pose)
            samples.append(make_sample(scenes[0], recipe, (picture,), key=f"view-{number}"))
            names.append(f"{number}: {scene.actors[0].subject.describe()}")
    examples = encoder.examples(samples, with_teacher=True)
    return [View(example=example, subjects=(name,)) for example, name in zip(examples, names, strict=True)]
