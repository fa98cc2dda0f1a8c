"""Images as GME sees them: resized twice, cut into patches.

Source: OpenS2V-Nexus eval/utils/gme/gme_model.py at 210eb08, and transformers 4.51.3 ``Qwen2VLImageProcessor``.
Differs: the image processor is always the one that works with PIL, so that pixels do not depend on whether
torchvision is installed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

from PIL import Image
from torch import Tensor

from refeval.errors import UnusableClip

CELL = 28
"""Side of the square of pixels that becomes one token."""
_FIRST_CELLS = (4, 16384)
_SECOND_CELLS = (256, 1280)


def first_size(width: int, height: int) -> tuple[int, int]:
    """Width and height after the first resize: multiples of 28, of 4 to 16384 cells of 28 x 28.

    An image of few or many cells keeps its shape only about: both sides are scaled by the same factor, then
    rounded up or down to a multiple of 28.

    Raises:
        UnusableClip: the image has no area (upstream: ZeroDivisionError, and the whole video has no score).
    """
    if not width or not height:
        raise UnusableClip(f"an image of {width}x{height} pixels cannot be embedded")
    least, most = (cells * CELL**2 for cells in _FIRST_CELLS)
    rounded = [max(CELL, round(side / CELL) * CELL) for side in (width, height)]
    area = rounded[0] * rounded[1]
    if area > most:
        shrink = math.sqrt(width * height / most)
        rounded = [math.floor(side / shrink / CELL) * CELL for side in (width, height)]
    elif area < least:
        grow = math.sqrt(least / (width * height))
        rounded = [math.ceil(side * grow / CELL) * CELL for side in (width, height)]
    return rounded[0], rounded[1]


def patches_of(images: Sequence[Image.Image]) -> tuple[Tensor, Tensor]:
    """The patches of images of any sizes, one after another.

    Returns:
        Pixels, float32, shape (patches of all images, 3 * 2 * 14 * 14), CLIP-normalised, and the grids, int64,
        shape (N, 3): 1, rows and columns of patches; four patches become one token, 256 to 1280 per image.

    Raises:
        UnusableClip: an image without area.
    """
    resized = [image.convert("RGB").resize(first_size(*image.size), Image.Resampling.BICUBIC) for image in images]
    batch = _processor()(resized, return_tensors="pt")
    return batch["pixel_values"], batch["image_grid_thw"]


@cache
def _processor() -> Any:
    from transformers import Qwen2VLImageProcessorPil

    least, most = (cells * CELL**2 for cells in _SECOND_CELLS)
    return Qwen2VLImageProcessorPil(size={"shortest_edge": least, "longest_edge": most})
