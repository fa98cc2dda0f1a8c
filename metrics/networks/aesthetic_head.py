"""Heads that turn a CLIP image embedding into an aesthetic rating.

Source: OpenS2V-Nexus eval/get_aesscore.py at 210eb08, whose head is the one of LAION's improved-aesthetic-predictor;
the plain linear heads are those of LAION-AI/aesthetic-predictor. Differs: dropout, which does nothing when scoring,
keeps its place in the numbering only.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from refeval.stored_weights import open_checkpoint
from refeval.wanted_tensors import refuse_others, shapes_of
from refeval.weights import fetch_command

WIDTH = 768
"""Of the embeddings of CLIP ViT-L/14."""


class AestheticHead(nn.Module):
    """Five linear layers without activations, in effect one affine map: D -> 1024 -> 128 -> 64 -> 16 -> 1.

    Parameters are named as published: ``layers.{0,2,4,6,7}.{weight,bias}``.

    Args:
        width: D, of the embeddings.
    """

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 1024),
            nn.Identity(),
            nn.Linear(1024, 128),
            nn.Identity(),
            nn.Linear(128, 64),
            nn.Identity(),
            nn.Linear(64, 16),
            nn.Linear(16, 1),
        )

    def forward(self, x_nd: Tensor) -> Tensor:
        """L2-normalised embeddings, (N, D), to ratings, (N, 1)."""
        rating_n1: Tensor = self.layers(x_nd)
        return rating_n1


def load_head(file: Path) -> nn.Module:
    """A published head: five layers (``layers.0.weight`` ...) or one (``weight``, ``bias``), of any width.

    Args:
        file: a pickle of tensors or safetensors.

    Returns:
        A map of (N, D) to (N, 1), float32, on the CPU.

    Raises:
        BadInput: other weights.
        MissingPrerequisite: no such file.
        CorruptFile: a file that cannot be read.
    """
    checkpoint = open_checkpoint(file, "aesthetics")
    shapes = checkpoint.shapes
    is_linear = set(shapes) == {"weight", "bias"}
    width = shapes.get("weight" if is_linear else "layers.0.weight", ())[-1:] or (WIDTH,)
    with torch.device("meta"):
        head = nn.Linear(width[0], 1) if is_linear else AestheticHead(width[0])
    refuse_others(file, shapes, shapes_of(head), "an aesthetic head", fetch_command("aesthetics", None))
    head.load_state_dict({key: tensor.read() for key, tensor in checkpoint.tensors.items()}, assign=True)
    return head.float().eval()
