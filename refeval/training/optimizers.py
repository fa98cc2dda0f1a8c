"""How parameters move: the optimizers of a recipe, their rate at every iteration, and averaged weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

from refeval.training.engine import own_parts
from refeval.training.recipe import OptimizerSettings

# Momentum of Muon as its authors use it.
_MUON_MOMENTUM = 0.95


def make_optimizers(trained: nn.Module, settings: OptimizerSettings) -> list[Optimizer]:
    """The optimizers of all parameters.

    ``muon``: the matrices of the blocks, whose updates are made orthogonal; embeddings, norms, modulation, the head and
    the projectors stay with AdamW.
    """
    matrices = [
        (name, parameter)
        for name, parameter in trained.named_parameters()
        if settings.name == "muon" and ".blocks." in f".{name}" and parameter.ndim == 2
    ]
    taken = {name for name, _ in matrices}
    rest = [parameter for name, parameter in trained.named_parameters() if name not in taken]
    adamw = AdamW(
        rest, lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay, foreach=False
    )
    if not matrices:
        return [adamw]
    muon = Muon(
        [parameter for _, parameter in matrices],
        lr=settings.muon_learning_rate,
        momentum=_MUON_MOMENTUM,
        weight_decay=0.0,
    )
    return [muon, adamw]


def rate(settings: OptimizerSettings, iterations: int, step: int) -> float:
    """Share of the full learning rate at an iteration.

    Args:
        settings: warm-up and cool-down.
        iterations: of the whole training.
        step: from 0.

    Returns:
        0 to 1.
    """
    rising = falling = 1.0
    if step < settings.warmup:
        rising = settings.warmup_from + (1 - settings.warmup_from) * step / settings.warmup
    last = round(settings.cooldown * iterations)
    if step >= iterations - last:
        falling = (iterations - step) / (last + 1)
    return rising * falling


def set_rate(optimizers: Iterable[Optimizer], share: float) -> None:
    """Give every optimizer ``share`` of its full rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group.setdefault("full_lr", group["lr"])
            group["lr"] = group["full_lr"] * share


class Average:
    """Exponentially averaged parameters; young averages forget faster, so that the random start does not linger.

    Args:
        parameters: by name; the average begins with their values.
        decay: towards which its decay rises.
    """

    def __init__(self, parameters: dict[str, Tensor], decay: float) -> None:
        self._decay = decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in parameters.items()}
        self._parameters = parameters

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the parameters as they are after iteration ``step`` (from 0)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(own_parts(self.tensors.values()), own_parts(self._parameters.values()), 1 - decay)
