"""A fixed latent transform in place of a VAE: cosines of small boxes of pixels.

A box of 4 x 4 pixels and 4 frames becomes one latent cell of 192 channels: the cosine transform in time and space of
three colour axes, both orthonormal. Each channel is divided by the square root of its spread over drawn clips. Divided
by the whole spread, the three channels that hold a box's mean colour would count no more than the finest detail, and a
small network learns colours some five times more slowly (docs/sprites.md); undivided, noise never covers them.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dct
from torch import Tensor

BOX = 4
"""Pixels of a side of a box, and its frames."""
CHANNELS = BOX**3 * 3

# Brightness, then two axes of colour; rows are of length 1.
_COLOUR_AXES = np.array([[1, 1, 1], [1, -1, 0], [1, 1, -2]]) / np.sqrt([[3.0], [2.0], [6.0]])
# What was measured over 400 drawn clips, told by a formula: the mean, and how the spread falls with the frequency.
_MEAN = (1.8, 0.0, 0.0)
_SPREAD = 6.3
_COLOUR_SHARE = (1.0, 0.36, 0.47)
_FALL = 1.8
_TIME = 2.0


def encode(frames: NDArray[np.uint8]) -> Tensor:
    """Frames, uint8 (..., T, H, W, 3), all sides multiples of 4, to latents, float32 (..., 192, T/4, H/4, W/4)."""
    *lead, time, height, width, _ = frames.shape
    values = torch.from_numpy(frames).float() / 127.5 - 1
    boxes = values.reshape(-1, time // BOX, BOX, height // BOX, BOX, width // BOX, BOX, 3)
    boxes = boxes.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, time // BOX, height // BOX, width // BOX, CHANNELS)
    latents = (boxes @ _basis().T - _mean()) / _scale()
    return latents.permute(0, 4, 1, 2, 3).reshape(*lead, CHANNELS, time // BOX, height // BOX, width // BOX)


def decode(latents: Tensor) -> NDArray[np.uint8]:
    """Latents (N, 192, F, H', W') to frames, uint8 (N, 4 F, 4 H', 4 W', 3); :func:`encode` turned round."""
    count, _, frames, height, width = latents.shape
    boxes = (latents.permute(0, 2, 3, 4, 1) * _scale() + _mean()) @ _basis()
    boxes = boxes.reshape(count, frames, height, width, BOX, BOX, BOX, 3).permute(0, 1, 4, 2, 5, 3, 6, 7)
    values = boxes.reshape(count, frames * BOX, height * BOX, width * BOX, 3)
    levels: NDArray[np.uint8] = ((values + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
    return levels


def encode_picture(picture: NDArray[np.uint8]) -> Tensor:
    """A picture, uint8 (..., H, W, 3), as a clip that stands still: float32 (..., 192, H/4, W/4)."""
    still = np.repeat(picture[..., None, :, :, :], BOX, axis=-4)
    return encode(still).squeeze(-3)


@cache
def _basis() -> Tensor:
    """Orthonormal (192, 192): a row for each channel, a column for each (frame, row, column, colour) of a box."""
    cosines = dct(np.eye(BOX), norm="ortho", axis=0)
    basis = np.kron(np.kron(np.kron(cosines, cosines), cosines), _COLOUR_AXES)
    return torch.from_numpy(basis).float()


@cache
def _scale() -> Tensor:
    """What channels are divided by, (192,); latents of drawn clips then have a mean square of about 1."""
    index = np.arange(BOX)
    frequency = _TIME * index[:, None, None] + index[None, :, None] + index[None, None, :]
    spread = _SPREAD * ((1.0 + frequency) ** -_FALL)[..., None] * np.array(_COLOUR_SHARE)
    return torch.from_numpy(np.sqrt(spread * spread.mean()).reshape(-1)).float()


@cache
def _mean() -> Tensor:
    """Of the channels, (192,): only the three constant ones have one."""
    mean = torch.zeros(CHANNELS)
    mean[: len(_MEAN)] = torch.tensor(_MEAN)
    return mean
