"""What is trained, as one module: the network and a projector for every aligned block."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from refeval.errors import BadInput
from refeval.generators.wan.checkpoints import transformer_of
from refeval.generators.wan.parts import in_precision
from refeval.generators.wan.transformer import ReferenceTransformer
from refeval.training.alignment import Projector
from refeval.training.dual import FEATURES, DualReferenceTransformer
from refeval.training.flow import Drawn
from refeval.training.objective import Batch, Objective
from refeval.training.recipe import Recipe
from refeval.training.worlds import World

_NETWORK = "network."
_SUFFIXES = ("proj.0.weight", "proj.2.weight")


class Trained(nn.Module):
    """Network and projectors.

    Args:
        network: float32.
        projectors: one for each of the first ``objective.depth`` blocks.
        objective: of the recipe.
    """

    def __init__(self, network: ReferenceTransformer, projectors: list[Projector], objective: Objective) -> None:
        super().__init__()
        self.network = network
        self.projectors = nn.ModuleList(projectors)
        self._objective = objective

    def forward(self, batch: Batch, drawn: Drawn, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The losses of a batch, field by field as in :class:`Losses`.

        A method of the module, so that wrappers for many processes see the pass; they look for tensors in tuples only.
        """
        projectors = cast("list[Projector]", [*self.projectors])
        found = self._objective.losses(self.network, projectors, batch, drawn, noise)
        return found.error, found.positive, found.negative, found.total


def make_trained(recipe: Recipe, world: World, seed: int) -> Trained:
    """What training starts from: the world's network, and projectors that are stored beside it or new.

    Args:
        recipe: of the training.
        world: of the recipe.
        seed: of new projectors; the global random numbers are left as they are.

    Raises:
        BadInput: the network has fewer blocks than are aligned, or stored projectors of other shapes.
    """
    network, stored = _start(recipe, world)
    depth, blocks = recipe.objective.depth, len(network.blocks)
    if depth > blocks:
        raise BadInput(
            f"objective.depth is {depth}, but the network has {blocks} blocks", cure=f"give a depth of 0 to {blocks}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        width = network.config.num_attention_heads * network.config.attention_head_dim
        projectors = [Projector(width, world.teacher_width) for _ in range(depth)]
    for index, projector in enumerate(projectors):
        _fill(projector, stored, index)
    if recipe.run.checkpointing:
        network.enable_gradient_checkpointing()
    return Trained(network.train(), projectors, recipe.objective)


def start_of(recipe: Recipe, world: World) -> ReferenceTransformer:
    """The network that training starts from, as :func:`network_of` gives the trained one."""
    network, _ = _start(recipe, world)
    return _ready(network, world)


def network_of(world: World, tensors: Mapping[str, Tensor]) -> ReferenceTransformer:
    """The network alone, from the parameters of a checkpoint.

    Args:
        world: of the recipe.
        tensors: as a checkpoint names them.

    Returns:
        it in evaluation mode, where and as the world draws with it.

    Raises:
        BadInput: they are of another network.
    """
    return _ready(network_from(tensors, world.config()), world)


def network_from(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> ReferenceTransformer:
    """The network of a checkpoint in float32, and no other memory than that of the tensors.

    Args:
        tensors: as a checkpoint names them.
        config: of the network, without its second input where it has one.

    Returns:
        it in evaluation mode.

    Raises:
        BadInput: they are of another network.
    """
    own = {name.removeprefix(_NETWORK): tensor for name, tensor in tensors.items() if name.startswith(_NETWORK)}
    if FEATURES not in own:
        return transformer_of(own, partial(ReferenceTransformer, **config))
    width = own[FEATURES].shape[1]
    return transformer_of(own, partial(DualReferenceTransformer, feature_width=width, **config))


def published_projectors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The projectors of a checkpoint by their published names, ``blocks.N.input_mlp.proj.0.weight`` and so on."""
    return {
        name.replace("projectors.", "blocks.", 1).replace(".proj.", ".input_mlp.proj.", 1): tensor
        for name, tensor in tensors.items()
        if name.startswith("projectors.")
    }


def _start(recipe: Recipe, world: World) -> tuple[ReferenceTransformer, dict[str, Tensor]]:
    """The world's network, with the second input where the recipe has one, and projectors stored beside it."""
    network, stored = world.network()
    if recipe.references == "dual":
        network = DualReferenceTransformer.from_plain(network, world.teacher_width)
    return network, stored


def _ready(network: ReferenceTransformer, world: World) -> ReferenceTransformer:
    # What Wan keeps in float32 stays so, as where published weights are loaded.
    ready: ReferenceTransformer = in_precision(network.eval(), world.dtype).to(world.device)
    return ready


def _fill(projector: Projector, stored: Mapping[str, Tensor], index: int) -> None:
    names = {suffix: f"blocks.{index}.input_mlp.{suffix}" for suffix in _SUFFIXES}
    if names[_SUFFIXES[0]] not in stored:
        return
    found = {suffix: stored[name].float() for suffix, name in names.items() if name in stored}
    wanted = {suffix: tensor.shape for suffix, tensor in projector.state_dict().items()}
    if {suffix: tensor.shape for suffix, tensor in found.items()} != wanted:
        raise BadInput(
            f"the stored projector of block {index} is for another teacher or width",
            details=(("stored", _shapes(found)), ("wanted", _shapes(projector.state_dict()))),
            cure="start from weights that were trained with the same teacher",
        )
    projector.load_state_dict(found)


def _shapes(tensors: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
