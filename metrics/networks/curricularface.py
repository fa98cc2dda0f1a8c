"""CurricularFace: the IR-101 network that turns the picture of an aligned face into an identity embedding.

Letters of shapes: N faces, C channels, H and W pixels, D numbers of an embedding.

Source: OpenS2V-Nexus eval/get_facesim.py at 210eb08 and the curricularface module that it imports; keys and shapes
of ``glint360k_curricular_face_r101_backbone.bin``. Differs: faces go through in batches; TF32 is never used, so a
GPU gives the numbers of a CPU up to rounding.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from refeval.stored_weights import open_checkpoint
from refeval.wanted_tensors import refuse_others, shapes_of
from refeval.weights import fetch_command

INPUT_SIZE = 112
_SCALE = 16
_BATCH = 32


class Bottleneck(nn.Module):
    """Residual block: norm, 3x3, norm, PReLU, 3x3 with the stride, norm; no bias in a convolution.

    Args:
        width_in: channels that come in.
        width: channels that go out.
        stride: of the block.
    """

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = (
            nn.MaxPool2d(1, stride)
            if width_in == width
            else nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(width_in),
            nn.Conv2d(width_in, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.PReLU(width),
            nn.Conv2d(width, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x_nchw: Tensor) -> Tensor:
        """From (N, C, H, W) to (N, C', H / stride, W / stride)."""
        summed: Tensor = self.res_layer(x_nchw) + self.shortcut_layer(x_nchw)
        return summed


class CurricularFace(nn.Module):
    """IR-101, or a smaller network of the same kind.

    Args:
        stages: (channels, blocks) of the four stages; the first block of each halves height and width.
        width: D.
    """

    def __init__(
        self,
        stages: tuple[tuple[int, int], ...] = ((64, 3), (128, 13), (256, 30), (512, 3)),
        width: int = 512,
    ) -> None:
        super().__init__()
        first, last = stages[0][0], stages[-1][0]
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, first, 3, 1, 1, bias=False), nn.BatchNorm2d(first), nn.PReLU(first)
        )
        before = [first, *(channels for channels, _ in stages)]
        self.body = nn.Sequential(
            *(
                Bottleneck(before[i] if block == 0 else channels, channels, 2 if block == 0 else 1)
                for i, (channels, blocks) in enumerate(stages)
                for block in range(blocks)
            )
        )
        side = INPUT_SIZE // _SCALE
        self.width = width
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(last),
            # Stands for the dropout of the training: the keys count it.
            nn.Identity(),
            nn.Flatten(),
            nn.Linear(last * side * side, width),
            nn.BatchNorm1d(width, affine=False),
        )

    def forward(self, x_nchw: Tensor) -> Tensor:
        """From float32 (N, 3, 112, 112), RGB in -1..1, to embeddings (N, D) of any length."""
        embeddings: Tensor = self.output_layer(self.body(self.input_layer(x_nchw)))
        return embeddings

    def embed(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embeddings of aligned faces.

        Args:
            faces: uint8 RGB, shape (N, 112, 112, 3).

        Returns:
            float32, shape (N, D), each of length 1.
        """
        device = next(self.parameters()).device
        found = [np.empty((0, self.width), np.float32)]
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
            for start in range(0, len(faces), _BATCH):
                pixels = torch.from_numpy(faces[start : start + _BATCH]).to(device).permute(0, 3, 1, 2).float()
                raw = self(pixels.div_(255).sub_(0.5).div_(0.5))
                found.append(nn.functional.normalize(raw).cpu().numpy())
        return np.concatenate(found)


def random_curricularface() -> CurricularFace:
    """A small network with fixed random weights, for tests and tiny runs: it tells faces apart, not identities."""
    generator = torch.Generator().manual_seed(0)
    # Of the biases torch draws some by itself.
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = CurricularFace(stages=((8, 1), (8, 1), (16, 1), (16, 1)), width=32)
        for parameter in network.parameters():
            if parameter.ndim > 1:
                bound = (3 / parameter[0].numel()) ** 0.5
                parameter.uniform_(-bound, bound, generator=generator)
    return network.eval()


def load_curricularface(file: Path, *, device: str = "cpu") -> CurricularFace:
    """The published network.

    Args:
        file: its checkpoint, a pickle of tensors or safetensors.
        device: ``cpu`` or ``cuda``.

    Raises:
        BadInput: the tensors are not those of the network.
        CorruptFile: the file is damaged.
    """
    stored = open_checkpoint(file, "facesim").tensors
    with torch.device("meta"):
        network = CurricularFace()
    found = {key: tensor.shape for key, tensor in stored.items()}
    refuse_others(file, found, shapes_of(network), "CurricularFace IR-101", fetch_command("facesim", None))
    network.load_state_dict({key: tensor.read() for key, tensor in stored.items()}, assign=True)
    return network.eval().float().to(device)
