"""Noise schedules and solvers: rectified-flow Euler (RefAlign) and UniPC with Wan2.1's own table (Phantom, VACE)."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from diffusers import UniPCMultistepScheduler
from torch import Tensor

_TRAINING_STEPS = 1000


class Schedule(Protocol):
    """A solver on its way through one clip.

    Attributes:
        sigmas: float32 (steps + 1,), noise level before every step, 0 at the end.
        timesteps: (steps,), what the transformer is told.
    """

    sigmas: Tensor
    timesteps: Tensor

    def step(self, velocity: Tensor, index: int, latents: Tensor) -> Tensor:
        """The latents after step ``index``; steps come in order, each once. Keeps shape and dtype."""
        ...


def shifted(sigmas: Tensor, shift: float) -> Tensor:
    """Noise levels moved towards 1: ``s u / (1 + (s - 1) u)``, same shape."""
    return shift * sigmas / (1 + (shift - 1) * sigmas)


class Euler:
    """Rectified flow by Euler's method.

    Source: RefAlign @6f91526 diffsynth/schedulers/flow_match.py with sigma_min 0 and extra_one_step.

    Args:
        steps: number of steps.
        shift: towards high noise.
    """

    def __init__(self, steps: int, shift: float) -> None:
        levels = shifted(torch.linspace(1.0, 0.0, steps + 1)[:-1], shift)
        self.sigmas = torch.cat([levels, levels.new_zeros(1)])
        self.timesteps = levels * _TRAINING_STEPS

    def step(self, velocity: Tensor, index: int, latents: Tensor) -> Tensor:
        """``x + v (sigma_next - sigma)``."""
        return latents + velocity * float(self.sigmas[index + 1] - self.sigmas[index])


class UniPC:
    """Wan2.1's second-order UniPC.

    The steps are diffusers'. The table is the official one, from 0.999 down to 0 with whole timesteps, which is not
    what diffusers makes of ``flow_shift``: up to 0.009 apart in sigma at low noise.

    Source: Wan2.1 @9737cba9 wan/utils/fm_solvers_unipc.py.

    Args:
        steps: number of steps.
        shift: towards high noise.
    """

    def __init__(self, steps: int, shift: float) -> None:
        self._solver = UniPCMultistepScheduler(
            num_train_timesteps=_TRAINING_STEPS,
            prediction_type="flow_prediction",
            use_flow_sigmas=True,
            flow_shift=shift,
            solver_order=2,
            solver_type="bh2",
        )
        # An array, not a list: only an array is shifted by the solver.
        self._solver.set_timesteps(sigmas=np.linspace(1 - 1 / _TRAINING_STEPS, 0.0, steps + 1)[:-1])
        # Near the start whole timesteps may come twice: steps are counted, not looked up.
        self._solver.set_begin_index(0)
        self.sigmas = self._solver.sigmas
        self.timesteps = self._solver.timesteps

    def step(self, velocity: Tensor, index: int, latents: Tensor) -> Tensor:
        """One step of the predictor-corrector."""
        after: Tensor = self._solver.step(velocity, self._solver.timesteps[index], latents, return_dict=False)[0]
        return after
