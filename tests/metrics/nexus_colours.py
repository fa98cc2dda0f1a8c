"""A detector and an embedder of colours: real networks of a few numbers, whose results can be told beforehand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from refeval.clips import Frame
from refeval.metrics.networks.yolo_world_boxes import Detections

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "human": (255, 255, 0)}


class ColourEmbedder(nn.Module):
    """The mean colour, in which a text stands for the colour that it names.

    Attributes:
        texts: every text that was embedded.
        images: how many images were embedded.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names = nn.Parameter(torch.tensor(list(COLOURS.values()), dtype=torch.float32) / 255)
        self.texts: list[str] = []
        self.images = 0

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        self.texts += texts
        return functional.normalize(self.names[[list(COLOURS).index(text) for text in texts]], dim=1)

    @torch.inference_mode()
    def embed_images(self, images: Sequence[Image.Image]) -> Tensor:
        self.images += len(images)
        return functional.normalize(torch.stack([_mean_colour(image) for image in images]), dim=1)


class ColourFinder(nn.Module):
    """One box around every pixel that is as bright as the prompt in the prompt's channels.

    Attributes:
        prompts: how many references were encoded.
        frames: how many frames were searched.
    """

    def __init__(self, confidence: float = 0.9) -> None:
        super().__init__()
        self.confidence = nn.Parameter(torch.tensor(confidence))
        self.prompts = 0
        self.frames = 0

    @torch.inference_mode()
    def embed_prompts(self, images: Sequence[Image.Image]) -> Tensor:
        self.prompts += len(images)
        return torch.stack([_mean_colour(image) for image in images])

    @torch.inference_mode()
    def detect(self, frames: Sequence[Frame], prompts_pd: Tensor) -> list[list[Detections]]:
        self.frames += len(frames)
        return [[self._search(torch.from_numpy(frame) / 255, prompt) for prompt in prompts_pd] for frame in frames]

    def _search(self, frame_hwc: Tensor, prompt: Tensor) -> Detections:
        ys, xs = ((frame_hwc - prompt).abs().amax(dim=-1) < 0.3).nonzero(as_tuple=True)
        count = min(len(xs), 1)
        corners = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] if count else []
        return Detections(
            boxes_n4=torch.tensor(corners).float().reshape(count, 4),
            scores_n=self.confidence.expand(count),
            labels_n=torch.zeros(count, dtype=torch.int64),
        )


def _mean_colour(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image, dtype=np.float32)).mean(dim=(0, 1)) / 255
