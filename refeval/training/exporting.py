"""Trained weights in files that other programs read; projectors stay behind unless training is to go on with them."""

from __future__ import annotations

from pathlib import Path

from refeval.errors import BadInput
from refeval.generators.wan.catalogue import BASES, Architecture
from refeval.generators.wan.checkpoints import KeyFormat, save_transformer
from refeval.training.folder import read_training, trained_tensors
from refeval.training.parameters import network_from, published_projectors
from refeval.training.recipe import Recipe


def export(
    training: Path, out: Path, *, keys: KeyFormat, step: int | None = None, average: bool = True, projectors: bool
) -> int:
    """Write the weights of a training.

    Args:
        training: its folder.
        out: a safetensors file; for ``diffusers`` a folder.
        keys: as :func:`~refeval.generators.wan.checkpoints.save_transformer`.
        step: of the checkpoint; None: the last.
        average: the averaged weights, where they are kept.
        projectors: write them too, ``refalign`` only.

    Returns:
        the iteration.

    Raises:
        BadInput: a network that no published format has, or no such checkpoint.
        DiskFull: no space.
    """
    recipe = read_training(training).recipe
    architecture = architecture_of(recipe)
    if projectors and keys != "refalign":
        raise BadInput(f"keys '{keys}' have no names for projectors", cure="--keys refalign, or no --projectors")
    found, tensors = trained_tensors(training, step=step, average=average)
    network = network_from(tensors, architecture.config())
    save_transformer(network, out, keys=keys, projectors=published_projectors(tensors) if projectors else None)
    return found


def architecture_of(recipe: Recipe) -> Architecture:
    """The published architecture of a recipe's network.

    Raises:
        BadInput: it has none: the sprites world's, and those with a second input.
    """
    if recipe.references == "dual":
        raise BadInput("a network with features as a second input has no published format")
    if recipe.network.base not in BASES:
        raise BadInput(f"the network of recipe {recipe.name} has no published format")
    return BASES[recipe.network.base].architecture
