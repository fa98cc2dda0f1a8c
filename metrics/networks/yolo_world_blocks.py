"""The blocks that YOLO-World's backbone, neck and head are built of; attribute names are the checkpoint's key names.

Letters of shapes: B frames, P prompts, D width of a prompt, C channels, H and W cells, M heads of attention.

Source: the block structure of YOLOv8 and YOLO-World-v2 as described in their papers (arXiv 2401.17270), with the
channel counts of the published checkpoint.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

NORM_EPS = 1e-3


class ConvUnit(nn.Module):
    """Convolution without bias, batch norm, SiLU.

    Args:
        inputs: channels.
        outputs: channels.
        kernel: odd side; the padding keeps the size at stride 1.
        stride: in both directions.
        active: whether SiLU follows.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, active: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=NORM_EPS)
        self.active = active

    def forward(self, x_bchw: Tensor) -> Tensor:
        normed = self.bn(self.conv(x_bchw))
        return functional.silu(normed) if self.active else normed


class Bottleneck(nn.Module):
    """Two 3x3 convolutions of equal width, with or without a shortcut around them."""

    def __init__(self, width: int, *, shortcut: bool) -> None:
        super().__init__()
        self.conv1 = ConvUnit(width, width, 3)
        self.conv2 = ConvUnit(width, width, 3)
        self.shortcut = shortcut

    def forward(self, x_bchw: Tensor) -> Tensor:
        y_bchw: Tensor = self.conv2(self.conv1(x_bchw))
        return x_bchw + y_bchw if self.shortcut else y_bchw


class _Stage(nn.Module):
    """YOLOv8's C2f without its forward: two halves, a chain of bottlenecks on the second, and a mix of them all.

    Args:
        inputs: channels.
        outputs: channels.
        depth: bottlenecks.
        shortcut: around each of them.
        branches: further chunks of half width that are mixed in.
    """

    def __init__(self, inputs: int, outputs: int, depth: int, *, shortcut: bool, branches: int) -> None:
        super().__init__()
        self.width = outputs // 2
        self.main_conv = ConvUnit(inputs, 2 * self.width, 1)
        self.blocks = nn.ModuleList(Bottleneck(self.width, shortcut=shortcut) for _ in range(depth))
        self.final_conv = ConvUnit((2 + depth + branches) * self.width, outputs, 1)

    def chunks(self, x_bchw: Tensor) -> list[Tensor]:
        """The halves and what each bottleneck makes: 2 + depth tensors of half the output width."""
        chunks = list(self.main_conv(x_bchw).split(self.width, dim=1))
        for block in self.blocks:
            chunks.append(block(chunks[-1]))
        return chunks

    def mix(self, chunks: list[Tensor]) -> Tensor:
        """The output."""
        mixed: Tensor = self.final_conv(torch.cat(chunks, dim=1))
        return mixed


class CrossStage(_Stage):
    """C2f with shortcuts."""

    def __init__(self, inputs: int, outputs: int, depth: int) -> None:
        super().__init__(inputs, outputs, depth, shortcut=True, branches=0)

    def forward(self, x_bchw: Tensor) -> Tensor:
        return self.mix(self.chunks(x_bchw))


class GuidedCrossStage(_Stage):
    """C2f without shortcuts and with one more branch, which looks at the prompts."""

    def __init__(self, inputs: int, outputs: int, depth: int, *, prompt_width: int, head_width: int) -> None:
        super().__init__(inputs, outputs, depth, shortcut=False, branches=1)
        self.attn_block = PromptAttention(self.width, prompt_width, head_width)

    def forward(self, x_bchw: Tensor, prompts_pd: Tensor) -> Tensor:
        chunks = self.chunks(x_bchw)
        return self.mix([*chunks, self.attn_block(chunks[-1], prompts_pd)])


class PromptAttention(nn.Module):
    """Weighs every head of every cell by how well the best prompt fits it.

    ``sigmoid(max_p <x, g_p> / sqrt(C / M) + bias)`` per cell and head times the projected feature.
    """

    def __init__(self, width: int, prompt_width: int, head_width: int) -> None:
        super().__init__()
        self.heads = width // head_width
        self.bias = nn.Parameter(torch.zeros(self.heads))
        self.guide_fc = nn.Linear(prompt_width, width)
        self.project_conv = ConvUnit(width, width, 3, active=False)

    def forward(self, x_bchw: Tensor, prompts_pd: Tensor) -> Tensor:
        batch, width, *size = x_bchw.shape
        head_width = width // self.heads
        x_bmchw = x_bchw.reshape(batch, self.heads, head_width, *size)
        guide_pmc = self.guide_fc(prompts_pd).reshape(-1, self.heads, head_width)
        fit_bmhw = torch.einsum("bmchw,pmc->bmhwp", x_bmchw, guide_pmc).amax(dim=-1)
        weight_bmhw = torch.sigmoid(fit_bmhw / head_width**0.5 + self.bias[:, None, None])
        weighted: Tensor = self.project_conv(x_bchw).reshape(x_bmchw.shape) * weight_bmhw[:, :, None]
        return weighted.reshape(x_bchw.shape)


class PyramidPooling(nn.Module):
    """YOLOv8's SPPF: three chained 5x5 maxima, concatenated with what they started from."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = ConvUnit(width, width // 2, 1)
        self.conv2 = ConvUnit(width * 2, width, 1)

    def forward(self, x_bchw: Tensor) -> Tensor:
        pooled = [self.conv1(x_bchw)]
        for _ in range(3):
            pooled.append(functional.max_pool2d(pooled[-1], 5, stride=1, padding=2))
        mixed: Tensor = self.conv2(torch.cat(pooled, dim=1))
        return mixed
