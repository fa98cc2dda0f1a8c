"""What is measured of a finished training: how far apart references are, and what is right where that is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from refeval.documents import write_document
from refeval.errors import BadInput, MissingPrerequisite
from refeval.generators.wan.transformer import ReferenceTransformer
from refeval.training.folder import trained_tensors
from refeval.training.objective import Objective
from refeval.training.parameters import network_of, start_of
from refeval.training.recipe import Recipe
from refeval.training.separability import (
    ReferenceFeatures,
    Separability,
    draw_separability,
    reference_features,
    write_separability,
)
from refeval.training.worlds import Measure, View, World

ASSESSMENT = "assessment.json"
# Where the video is mostly noise, the references have to tell what it will show.
_SIGMA = 0.9


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """What was measured.

    Attributes:
        separability: of references before and after; None where the world has no views of subjects.
        block: of it that is shown: the last that is aligned; without alignment, the last of the paper's.
        measures: empty where the truth is not known.
        notes: what could not be made, and why.
    """

    separability: Separability | None
    block: int
    measures: Sequence[Measure]
    notes: tuple[str, ...]


def conclude(folder: Path, recipe: Recipe, world: World, *, seed: int) -> Conclusion:
    """Measure the last checkpoint, and write ``separability.json`` with its figure and ``assessment.json``.

    Raises:
        BadInput: no checkpoint.
        DiskFull: no space for a document.
    """
    step, tensors = trained_tensors(folder)
    views = world.views()
    # One network after the other: a GPU may hold only one.
    before = _features(start_of(recipe, world), world, views) if views else None
    network = network_of(world, tensors)
    block = recipe.objective.depth or min(Objective().depth, len(network.blocks))
    separability: Separability | None = None
    notes: tuple[str, ...] = ()
    if before is not None:
        separability, notes = _compare(folder, before, _features(network, world, views), block)
    measures = world.assess(network, seed=seed)
    if measures:
        content = {"step": step, "seed": seed, "measures": [measure.described() for measure in measures]}
        write_document(folder / ASSESSMENT, content)
    return Conclusion(separability=separability, block=block, measures=measures, notes=notes)


def _features(network: ReferenceTransformer, world: World, views: Sequence[View]) -> ReferenceFeatures:
    return reference_features(network, views, sigma=_SIGMA, text_tokens=world.text_tokens, slots=world.reference_slots)


def _compare(
    folder: Path, before: ReferenceFeatures, after: ReferenceFeatures, block: int
) -> tuple[Separability | None, tuple[str, ...]]:
    found: Separability | None = None
    try:
        found = write_separability(folder, before, after)
        draw_separability(folder, before, after, block)
    except (BadInput, MissingPrerequisite) as error:
        # Too few subjects, or no package for the figure: the training is done all the same.
        return found, (str(error),)
    return found, ()
