"""Images to aesthetic ratings: pixels, a CLIP tower, a head.

Source: OpenS2V-Nexus eval/get_aesscore.py at 210eb08. Differs: the image processor is always the one that works
with PIL, for open_clip's towers too, and no convolution is rounded to TF32 on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from refeval.devices import pick_device
from refeval.metrics.networks.aesthetic_clip import Tower, load_clip, load_open_clip, tiny_clip
from refeval.metrics.networks.aesthetic_head import AestheticHead, load_head
from refeval.metrics.networks.gme_tiny import fill_randomly
from refeval.wanted_tensors import cured_by

_BATCH = 32


class Rater:
    """Rates images: CLIP embedding, L2-normalised, through a head.

    Args:
        tower: of CLIP.
        head: for embeddings of its width.
        device: where both are.
        size: side of the square that the tower sees.
    """

    def __init__(self, tower: Tower, head: nn.Module, device: torch.device, size: int = 224) -> None:
        self._tower = tower
        self._head = head
        self._device = device
        self._processor = _processor(size)

    def rate(self, images: Sequence[Image.Image]) -> Tensor:
        """Ratings, float32, shape (N,), on the CPU, for N >= 1 images; higher is better."""
        with torch.inference_mode():
            return torch.cat([self._head(functional.normalize(x_nd)).squeeze(1).cpu() for x_nd in self._embed(images)])

    def embed(self, images: Sequence[Image.Image]) -> Tensor:
        """Embeddings before normalisation, float32, shape (N, D), on the CPU, for N >= 1 images."""
        with torch.inference_mode():
            return torch.cat([x_nd.cpu() for x_nd in self._embed(images)])

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """What the tower sees: float32, shape (N, 3, S, S), CLIP-normalised."""
        pixels: Tensor = self._processor(list(images), return_tensors="pt")["pixel_values"]
        return pixels

    def _embed(self, images: Sequence[Image.Image]) -> Iterator[Tensor]:
        for start in range(0, len(images), _BATCH):
            pixels = self.pixels(images[start : start + _BATCH]).to(self._device)
            # cuDNN's default computes the first convolution with 10 bits of mantissa.
            with torch.backends.cudnn.flags(allow_tf32=False):
                embeddings_nd = self._tower(pixels)
            yield embeddings_nd


def published_rater(clip: Path, head: Path, device: str) -> Rater:
    """The rater of OpenS2V-Eval.

    Args:
        clip: ``model.safetensors`` of CLIP ViT-L/14, with its ``config.json`` beside it.
        head: ``aesthetic-model.pth``.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        BadInput: other weights, or an unknown device.
        MissingPrerequisite: no such file or device.
        CorruptFile: a file that cannot be read.
    """
    place = pick_device(device, "aesthetics")
    return Rater(load_clip(clip, place), load_head(head).to(place), place)


def open_clip_rater(model: str, clip: Path, head: Path, device: str) -> Rater:
    """A rater with another head of LAION, on a CLIP of open_clip.

    Args:
        model: open_clip's name of the CLIP.
        clip: its weights.
        head: the head for its embeddings.
        device: as :func:`published_rater`.

    Raises:
        BadInput, MissingPrerequisite, CorruptFile: as :func:`published_rater`, and where open_clip is missing.
    """
    place = pick_device(device, "aesthetics")
    tower, size = load_open_clip(model, clip, place)
    with cured_by(f"give a whole file with a head for the embeddings of open_clip's {model}"):
        loaded = load_head(head)
    return Rater(tower, loaded.to(place), place, size)


def tiny_rater() -> Rater:
    """Random weights, float32, on the CPU, the same in every process."""
    head = AestheticHead().eval()
    fill_randomly(head)
    return Rater(tiny_clip(), head, torch.device("cpu"))


def _processor(size: int) -> Any:
    from transformers import CLIPImageProcessorPil

    return CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
