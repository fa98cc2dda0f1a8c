"""From noise to latents: the loop over the steps of a schedule, guided by what a family's conditions predict.

Letters of shapes: K guidance branches, C latent channels (16), F latent frames, H and W latent height and width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from refeval.errors import UnusableClip
from refeval.generators.wan.schedules import Schedule


def plain_guidance(predictions: Tensor, scale: float) -> Tensor:
    """``u + s (c - u)`` of two predictions stacked as c, u: (2, ...) to (1, ...)."""
    conditional, unconditional = predictions.chunk(2)
    return unconditional + scale * (conditional - unconditional)


def dual_guidance(predictions: Tensor, image: float, text: float) -> Tensor:
    """``n + s_image (i - n) + s_text (it - i)`` of three predictions stacked as it, i, n: (3, ...) to (1, ...).

    it: references and prompt; i: references and negative prompt; n: references set to zero and negative prompt.
    """
    both, references, neither = predictions.chunk(3)
    return neither + image * (references - neither) + text * (both - references)


class Conditions(ABC):
    """What steers one clip, for every branch of its guidance.

    Attributes:
        branches: K, how many predictions one step takes.
        extra_frames: latent frames beside those of the video that noise is needed for.
    """

    branches: int
    extra_frames: int = 0

    @abstractmethod
    def predict(self, latents: Tensor, timestep: Tensor, branches: slice) -> Tensor:
        """The velocity in some branches: latents (1, C, F, H, W) and timestep (1,) to (k, C, F, H, W)."""

    @abstractmethod
    def combine(self, predictions: Tensor) -> Tensor:
        """The guided velocity: (K, C, F, H, W) to (1, C, F, H, W)."""

    @abstractmethod
    def video(self, latents: Tensor) -> Tensor:
        """The frames that are decoded: latents without the frames that stand for references."""


def denoise(
    noise: Tensor,
    schedule: Schedule,
    conditions: Conditions,
    *,
    together: bool,
    round_timesteps: bool,
    on_step: Callable[[int, Tensor, Tensor], None] | None = None,
) -> Tensor:
    """Sample latents.

    Args:
        noise: (1, C, F, H, W); its dtype is the one that latents keep between the steps.
        schedule: fresh; its steps are used up.
        conditions: of the clip.
        together: predict all branches in one batch, which is faster, or one after the other, which takes less memory.
        round_timesteps: tell the transformer timesteps rounded to bfloat16, as RefAlign's official run does.
        on_step: called with index, guided velocity and latents after every step.

    Returns:
        The latents after the last step, shape and dtype of the noise.

    Raises:
        UnusableClip: the latents are no longer finite.
    """
    latents = noise
    for index, exact in enumerate(schedule.timesteps):
        timestep = exact.to(noise.device, torch.float32).reshape(1)
        if round_timesteps:
            timestep = timestep.bfloat16().float()
        velocity = conditions.combine(_predictions(conditions, latents, timestep, together))
        latents = schedule.step(velocity, index, latents)
        if on_step is not None:
            on_step(index, velocity, latents)
    if not bool(latents.isfinite().all()):
        raise UnusableClip("the sampled latents hold NaN or infinity")
    return latents


def _predictions(conditions: Conditions, latents: Tensor, timestep: Tensor, together: bool) -> Tensor:
    count = conditions.branches
    if together:
        return conditions.predict(latents, timestep, slice(0, count)).to(latents.dtype)
    parts = [conditions.predict(latents, timestep, slice(i, i + 1)) for i in range(count)]
    return torch.cat(parts).to(latents.dtype)
