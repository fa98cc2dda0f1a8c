"""The training objective: rectified flow on a shifted schedule, its weights, and the gate of the alignment.

Source: RefAlign @6f91526 diffsynth/schedulers/flow_match.py:32-37 (weights), pipelines/wan_video_new6.py:504-523
(timesteps looked up in bfloat16, gate). Differs: samples of a batch draw their timesteps apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from refeval.generators.wan.schedules import shifted

STEPS = 1000


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Noise levels that training draws from, from 1 (index 0) towards 0.

    Attributes:
        shift: towards high noise.
        weighting: ``bell``: the official weights of the squared error; ``even``: 1 at every level.
        rounded: look timesteps up as the official run in bfloat16 does: rounded, then the nearest of the table.
    """

    shift: float = 5.0
    weighting: Literal["bell", "even"] = "bell"
    rounded: bool = False

    @cached_property
    def sigmas(self) -> Tensor:
        """float32 (1000,), 1 first."""
        return shifted(torch.linspace(1.0, 0.0, STEPS + 1)[:-1], self.shift)

    @cached_property
    def timesteps(self) -> Tensor:
        """float32 (1000,), what the transformer is told: 1000 sigma."""
        return self.sigmas * STEPS

    @cached_property
    def weights(self) -> Tensor:
        """Weights of the squared error, float32 (1000,), mean 1: a bell around timestep 500 is 0 at pure noise."""
        if self.weighting == "even":
            return torch.ones(STEPS)
        bell = torch.exp(-2 * ((self.timesteps - STEPS / 2) / STEPS) ** 2)
        above = bell - bell.min()
        return above * (STEPS / above.sum())

    def at(self, indices: Tensor) -> Drawn:
        """The levels of indices, int64 (B,)."""
        if self.rounded:
            asked = self.timesteps[indices].bfloat16().float()
            indices = (self.timesteps[None] - asked[:, None]).abs().argmin(dim=1)
            return Drawn(timesteps=asked, sigmas=self.sigmas[indices], weights=self.weights[indices])
        return Drawn(timesteps=self.timesteps[indices], sigmas=self.sigmas[indices], weights=self.weights[indices])


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The noise levels of a batch.

    Attributes:
        timesteps: float32 (B,), what the transformer is told.
        sigmas: float32 (B,), shares of noise.
        weights: float32 (B,), of the squared error.
    """

    timesteps: Tensor
    sigmas: Tensor
    weights: Tensor

    def noisy(self, clean: Tensor, noise: Tensor) -> Tensor:
        """``(1 - sigma) x0 + sigma noise``, (B, ...), in the dtype of ``clean``."""
        sigma = self.sigmas.to(clean).view(-1, *[1] * (clean.ndim - 1))
        return (1 - sigma) * clean + sigma * noise

    def gate(self, power: float) -> Tensor:
        """``(t / 1000) ** power``, float32 (B,): how much the alignment counts; 1 everywhere for power 0."""
        return (self.timesteps / STEPS).clamp(0, 1) ** power


def squared_error(velocity: Tensor, clean: Tensor, noise: Tensor, emphasis: Tensor | None = None) -> Tensor:
    """Mean of ``(v - (noise - x0))²`` of every sample, float32 (B,).

    Args:
        velocity: (B, C, F, H, W), like the next two.
        clean: x0.
        noise: as it was mixed in.
        emphasis: weights, float32 (B, F, H, W); None: all 1.
    """
    squares = (velocity.float() - (noise.float() - clean.float())).square()
    if emphasis is not None:
        squares = squares * emphasis[:, None]
    return squares.flatten(1).mean(dim=1)
