"""From a frame to the square input of YOLO-World, and from its output back to boxes on the frame.

Letters of shapes: B frames, P prompts, A cells of all levels, N boxes, H and W cells of a level, S side in pixels.

Source: what OpenS2V-Nexus eval/get_nexusscore.py at 210eb08 does through mmyolo's test pipeline and post-processing.
Differs: boxes at or below the score that is asked for are dropped before the suppression, where they change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refeval.clips import Frame
from refeval.metrics.networks.yolo_world import STRIDES, Level

_PADDING = 114
LOWEST_SCORE = 0.001
OVERLAP = 0.7
_MOST_CANDIDATES = 30_000
_MOST_BOXES = 300


@dataclass(frozen=True, kw_only=True)
class Letterbox:
    """A frame in the square that the network sees.

    Attributes:
        pixels: uint8 RGB, shape (S, S, 3).
        scale: (horizontal, vertical), square pixels per frame pixel.
        offset: (left, top) of the frame in the square.
        width: of the frame.
        height: of the frame.
    """

    pixels: Frame
    scale: tuple[float, float]
    offset: tuple[int, int]
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Detections:
    """Boxes on one frame, highest score first.

    Attributes:
        boxes_n4: float32 (left, top, right, bottom) in pixels of the frame, inside of it.
        scores_n: float32, 0 to 1.
        labels_n: which prompt.
    """

    boxes_n4: Tensor
    scores_n: Tensor
    labels_n: Tensor

    def __getitem__(self, chosen: Tensor | slice) -> Detections:
        """Some of them."""
        return Detections(
            boxes_n4=self.boxes_n4[chosen], scores_n=self.scores_n[chosen], labels_n=self.labels_n[chosen]
        )


def letterbox(frame: Frame, side: int) -> Letterbox:
    """Scale a frame until its longer side fits, small frames too, and centre it on grey.

    Args:
        frame: uint8 RGB, shape (H, W, 3).
        side: of the square.
    """
    height, width = frame.shape[:2]
    ratio = side / max(height, width)
    scaled = (max(int(width * ratio), 1), max(int(height * ratio), 1))
    resized: NDArray[np.uint8] = frame
    if ratio != 1:
        how = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
        resized = cv2.resize(frame, scaled, interpolation=how).astype(np.uint8, copy=False)
    left, top = (side - scaled[0]) // 2, (side - scaled[1]) // 2
    pixels = np.full((side, side, 3), _PADDING, np.uint8)
    pixels[top : top + scaled[1], left : left + scaled[0]] = resized
    scale = (scaled[0] / width, scaled[1] / height)
    return Letterbox(pixels=pixels, scale=scale, offset=(left, top), width=width, height=height)


def network_input(boxed: Sequence[Letterbox], device: torch.device) -> Tensor:
    """The input (B, 3, S, S), float32 in 0..1, blue first.

    The network was trained on red first: the official script swaps a frame that is RGB already, and that is the
    protocol.
    """
    swapped = np.stack([one.pixels[..., ::-1].transpose(2, 0, 1) for one in boxed])
    return torch.from_numpy(swapped).to(device).float() / 255


def decode(levels: Sequence[Level]) -> tuple[Tensor, Tensor]:
    """Boxes (B, A, 4) in pixels of the square and their scores (B, A, P), 0 to 1."""
    boxes, scores = [], []
    for stride, (logits_bphw, distances_b4hw) in zip(STRIDES, levels, strict=True):
        rows, columns = distances_b4hw.shape[2:]
        y, x = torch.meshgrid(
            _centres(rows, stride, logits_bphw), _centres(columns, stride, logits_bphw), indexing="ij"
        )
        left, top, right, bottom = (distances_b4hw * stride).unbind(dim=1)
        boxes.append(torch.stack([x - left, y - top, x + right, y + bottom], dim=-1).flatten(1, 2))
        scores.append(logits_bphw.sigmoid().flatten(2).transpose(1, 2))
    return torch.cat(boxes, dim=1), torch.cat(scores, dim=1)


def place_boxes(boxes_a4: Tensor, scores_ap: Tensor, boxed: Letterbox, *, above: float = LOWEST_SCORE) -> Detections:
    """The boxes of one frame that survive the suppression among those of the same prompt.

    Args:
        boxes_a4: in pixels of the square.
        scores_ap: 0 to 1.
        boxed: the frame.
        above: scores must be higher than this and than 0.001.
    """
    cells, labels = (scores_ap > max(above, LOWEST_SCORE)).nonzero(as_tuple=True)
    scores, order = scores_ap[cells, labels].sort(descending=True, stable=True)
    order = order[:_MOST_CANDIDATES]
    boxes = boxes_a4[cells[order]] - boxes_a4.new_tensor(boxed.offset * 2)
    boxes = boxes / boxes_a4.new_tensor(boxed.scale * 2)
    found = Detections(boxes_n4=boxes, scores_n=scores[:_MOST_CANDIDATES], labels_n=labels[order])
    found = found[suppress(found, OVERLAP)[:_MOST_BOXES]]
    limits = boxes_a4.new_tensor((boxed.width, boxed.height) * 2)
    inside = torch.minimum(found.boxes_n4.clamp(min=0), limits)
    return Detections(boxes_n4=inside, scores_n=found.scores_n, labels_n=found.labels_n)


def choose(found: Detections, *, above: float, most: int) -> Detections:
    """What the official ``run_image`` keeps for one prompt: another suppression, a score, a number.

    Args:
        found: of :func:`place_boxes`.
        above: scores must be higher.
        most: how many at most.
    """
    # Boxes that were cut at the border may overlap more than they did before.
    found = found[suppress(found, OVERLAP)]
    return found[found.scores_n > above][:most]


def suppress(found: Detections, overlap: float) -> Tensor:
    """Indices of the boxes that no better box of the same prompt covers.

    Args:
        found: highest score first.
        overlap: intersection over union above which the lower score goes.
    """
    kept = []
    rest = torch.arange(len(found.scores_n))
    while len(rest):
        best, rest = rest[0], rest[1:]
        kept.append(best)
        covered = _overlap(found.boxes_n4[best], found.boxes_n4[rest]) > overlap
        rest = rest[~(covered & (found.labels_n[rest] == found.labels_n[best]))]
    return torch.stack(kept) if kept else rest


def _overlap(box_4: Tensor, boxes_n4: Tensor) -> Tensor:
    """Intersection over union; not a number, and so never above anything, for two empty boxes."""
    corner = torch.minimum(box_4[2:], boxes_n4[:, 2:])
    common = (corner - torch.maximum(box_4[:2], boxes_n4[:, :2])).clamp(min=0).prod(dim=-1)
    return common / (_area(box_4) + _area(boxes_n4) - common)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1)


def _centres(count: int, stride: int, like: Tensor) -> Tensor:
    return (torch.arange(count, device=like.device, dtype=like.dtype) + 0.5) * stride
