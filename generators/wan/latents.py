"""Between pixels and latents: Wan2.1's VAE, with its latents normalised as the transformers want them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refeval.errors import UnusableClip


class VideoCodec:
    """Encodes references and decodes clips.

    Args:
        vae: diffusers' ``AutoencoderKLWan``, on its device.
        tiling: decode in tiles. Encoding is never tiled: neither is it in the official code.
    """

    def __init__(self, vae: Any, *, tiling: bool) -> None:
        self.vae = vae
        self._tiling = tiling
        shape = (1, -1, 1, 1, 1)
        self._mean = torch.tensor(vae.config.latents_mean).view(shape)
        self._scale = 1.0 / torch.tensor(vae.config.latents_std).view(shape)

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels (1, 3, T, H, W) in -1 to 1, T = 4 k + 1, to latents (1, 16, k + 1, H / 8, W / 8).

        The mode of the distribution is taken, never a sample. dtype and device are the VAE's.
        """
        self.vae.use_tiling = False
        mode: Tensor = self.vae.encode(pixels.to(self.vae.device, self.vae.dtype)).latent_dist.mode()
        return (mode - self._mean.to(mode)) * self._scale.to(mode)

    def decode(self, latents: Tensor) -> NDArray[np.uint8]:
        """Latents (1, 16, F, H, W) to frames, uint8 RGB (4 F - 3, 8 H, 8 W, 3).

        Levels are cut off, not rounded, as the official scripts do.

        Raises:
            UnusableClip: the decoded frames hold NaN or infinity.
        """
        self.vae.use_tiling = self._tiling
        latents = latents.to(self.vae.device, self.vae.dtype)
        video = self.vae.decode(latents / self._scale.to(latents) + self._mean.to(latents)).sample[0].float()
        if not bool(video.isfinite().all()):
            raise UnusableClip("the decoded frames hold NaN or infinity")
        levels = ((video + 1) * 127.5).clamp(0, 255).to(torch.uint8)
        frames: NDArray[np.uint8] = levels.permute(1, 2, 3, 0).cpu().numpy()
        return frames
