"""YOLO-World-v2 with the image-prompt adapter: frames and prompt embeddings in, logits and distances per cell out.

The module tree has the key names of the published checkpoint. Nothing here looks at pixels of other sizes or at
boxes: :mod:`.yolo_world_boxes` does.

Letters of shapes: B frames, P prompts, D width of a prompt, C channels, H and W cells of a level, S side in pixels.

Source: YOLO-World (arXiv 2401.17270) as OpenS2V-Nexus eval/utils/yoloworld runs it at 210eb08. Differs: the backbone
runs once per frame instead of twice per frame and prompt; the text encoder, which image prompts do not use, is absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from refeval.metrics.networks.yolo_world_blocks import (
    NORM_EPS,
    ConvUnit,
    CrossStage,
    GuidedCrossStage,
    PyramidPooling,
)

STRIDES = (8, 16, 32)
BINS = 16


@dataclass(frozen=True, kw_only=True)
class YoloWorldSize:
    """How large the network is; the defaults are YOLO-World-v2-L.

    Attributes:
        side: of the square input, pixels; a multiple of 32.
        stem: channels after the first convolution.
        stages: channels after each of the four stages.
        depths: bottlenecks of the four stages.
        neck_depth: bottlenecks of every block of the neck.
        prompt: width of a prompt embedding.
        head_width: channels of one head of the neck's attention.
        tower: channels of the towers of the head that classify.
    """

    side: int = 640
    stem: int = 64
    stages: tuple[int, int, int, int] = (128, 256, 512, 512)
    depths: tuple[int, int, int, int] = (3, 6, 6, 3)
    neck_depth: int = 3
    prompt: int = 512
    head_width: int = 32
    tower: int = 256

    @property
    def levels(self) -> tuple[int, int, int]:
        """Channels at strides 8, 16 and 32."""
        return self.stages[1:]


class Level(NamedTuple):
    """What the head says about one level.

    Attributes:
        logits_bphw: of every prompt at every cell.
        distances_b4hw: to left, top, right and bottom of the box, in cells.
    """

    logits_bphw: Tensor
    distances_b4hw: Tensor


class YoloWorld(nn.Module):
    """The detector without its CLIP towers: 47.9 million parameters in size L."""

    def __init__(self, size: YoloWorldSize | None = None) -> None:
        super().__init__()
        self.size = size or YoloWorldSize()
        self.backbone = nn.ModuleDict({"image_model": Backbone(self.size)})
        self.neck = Neck(self.size)
        self.bbox_head = nn.ModuleDict({"head_module": Head(self.size)})
        self.image_prompt_encoder = PromptAdapter(self.size.prompt)

    def features(self, images_b3ss: Tensor) -> tuple[Tensor, ...]:
        """What every prompt is compared with; (B, C, H, W) at strides 8, 16, 32.

        Args:
            images_b3ss: float in 0..1, channels as the official script hands them over (blue first).
        """
        found: tuple[Tensor, ...] = self.backbone["image_model"](images_b3ss)
        return found

    def forward(self, features: Sequence[Tensor], prompts_pd: Tensor) -> list[Level]:
        """Logits and distances at every level, for prompts that are looked for *together*.

        Together means that the neck takes the maximum over them: the official script gives one prompt at a time.

        Args:
            features: of :meth:`features`.
            prompts_pd: of :meth:`PromptAdapter.forward`.
        """
        levels: list[Level] = self.bbox_head["head_module"](self.neck(features, prompts_pd), prompts_pd)
        return levels


class Backbone(nn.Module):
    """YOLOv8's: a stem and four stages, each of which halves the size."""

    def __init__(self, size: YoloWorldSize) -> None:
        super().__init__()
        self.stem = ConvUnit(3, size.stem, 3, stride=2)
        widths = (size.stem, *size.stages)
        for index, depth in enumerate(size.depths, 1):
            before, width = widths[index - 1 : index + 1]
            stage = nn.Sequential(ConvUnit(before, width, 3, stride=2), CrossStage(width, width, depth))
            if index == len(size.depths):
                stage.append(PyramidPooling(width))
            self.add_module(f"stage{index}", stage)

    def forward(self, images_b3ss: Tensor) -> tuple[Tensor, ...]:
        x_bchw = self.get_submodule("stage1")(self.stem(images_b3ss))
        found = []
        for index in (2, 3, 4):
            x_bchw = self.get_submodule(f"stage{index}")(x_bchw)
            found.append(x_bchw)
        return tuple(found)


class Neck(nn.Module):
    """Path aggregation, guided by the prompts: from coarse to fine, then back."""

    def __init__(self, size: YoloWorldSize) -> None:
        super().__init__()
        fine, middle, coarse = size.levels

        def guided(inputs: int, outputs: int) -> GuidedCrossStage:
            return GuidedCrossStage(
                inputs, outputs, size.neck_depth, prompt_width=size.prompt, head_width=size.head_width
            )

        self.top_down_layers = nn.ModuleList([guided(coarse + middle, middle), guided(middle + fine, fine)])
        self.downsample_layers = nn.ModuleList(ConvUnit(width, width, 3, stride=2) for width in (fine, middle))
        self.bottom_up_layers = nn.ModuleList([guided(fine + middle, middle), guided(middle + coarse, coarse)])

    def forward(self, features: Sequence[Tensor], prompts_pd: Tensor) -> list[Tensor]:
        fine, middle, coarse = features
        middle = self.top_down_layers[0](torch.cat([_doubled(coarse), middle], dim=1), prompts_pd)
        levels = [self.top_down_layers[1](torch.cat([_doubled(middle), fine], dim=1), prompts_pd)]
        for down, layer, above in zip(self.downsample_layers, self.bottom_up_layers, (middle, coarse), strict=True):
            levels.append(layer(torch.cat([down(levels[-1]), above], dim=1), prompts_pd))
        return levels


class Head(nn.Module):
    """Per level, a tower that is compared with the prompts and one that tells the distances to the sides."""

    bins: Tensor

    def __init__(self, size: YoloWorldSize) -> None:
        super().__init__()
        sides = 4 * BINS
        self.cls_preds = nn.ModuleList(_tower(width, size.tower, size.prompt) for width in size.levels)
        self.reg_preds = nn.ModuleList(_tower(width, sides, sides) for width in size.levels)
        self.cls_contrasts = nn.ModuleList(Contrast(size.prompt) for _ in size.levels)
        self.register_buffer("bins", torch.arange(BINS, dtype=torch.float32), persistent=False)

    def forward(self, levels: Sequence[Tensor], prompts_pd: Tensor) -> list[Level]:
        towers = zip(self.cls_preds, self.cls_contrasts, self.reg_preds, strict=True)
        return [
            Level(contrast(classify(x_bchw), prompts_pd), self._distances(measure(x_bchw)))
            for x_bchw, (classify, contrast, measure) in zip(levels, towers, strict=True)
        ]

    def _distances(self, raw_bchw: Tensor) -> Tensor:
        """The expectation over the bins of each side."""
        batch, _, *size = raw_bchw.shape
        shares = raw_bchw.reshape(batch, 4, BINS, *size).softmax(dim=2)
        return torch.einsum("bskhw,k->bshw", shares, self.bins)


class Contrast(nn.Module):
    """``<norm(x), w / |w|> * exp(logit_scale) + bias`` for every cell and prompt."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width, eps=NORM_EPS)
        self.bias = nn.Parameter(torch.zeros(()))
        self.logit_scale = nn.Parameter(torch.zeros(()))

    def forward(self, x_bchw: Tensor, prompts_pd: Tensor) -> Tensor:
        unit_pd = functional.normalize(prompts_pd, dim=-1)
        fit_bphw = torch.einsum("bchw,pc->bphw", self.norm(x_bchw), unit_pd)
        return fit_bphw * self.logit_scale.exp() + self.bias


class PromptAdapter(nn.Module):
    """From CLIP's image embedding to a prompt: normalise, two linear layers, normalise.

    The training adds the embedding to the projection; the official script does not, and that is the protocol.
    """

    img_mean: Tensor
    img_std: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        # The checkpoint holds CLIP's pixel statistics; the official script lets CLIP's own processor apply them.
        self.register_buffer("img_mean", torch.zeros(1, 3, 1, 1))
        self.register_buffer("img_std", torch.ones(1, 3, 1, 1))
        self.projector = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, embeddings_pd: Tensor) -> Tensor:
        """Prompts of length 1, (P, D), from CLIP's projected embeddings (P, D) of any length."""
        return functional.normalize(self.projector(functional.normalize(embeddings_pd, dim=-1)), dim=-1)


def _tower(inputs: int, width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(ConvUnit(inputs, width, 3), ConvUnit(width, width, 3), nn.Conv2d(width, outputs, 1))


def _doubled(x_bchw: Tensor) -> Tensor:
    return functional.interpolate(x_bchw, scale_factor=2, mode="nearest")
