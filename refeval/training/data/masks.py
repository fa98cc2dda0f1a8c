"""COCO's run lengths: which pixels of a picture belong to a subject.

Source: the format of pycocotools (common/maskApi.c, ``rleFrString`` and ``rleDecode``), written anew.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refeval.training.data.rows import Mask

_FIVE_BITS, _MORE, _SIGN, _FIRST_LETTER = 0x1F, 0x20, 0x10, 48


def decode_mask(mask: Mask) -> NDArray[np.bool_]:
    """The pixels of a mask.

    Args:
        mask: run lengths.

    Returns:
        bool (H, W).

    Raises:
        ValueError: the runs do not fill the size.
    """
    height, width = mask.size
    runs = np.array(_runs(mask.counts) if isinstance(mask.counts, str) else mask.counts, np.int64)
    if min(height, width) < 1 or runs.min(initial=0) < 0 or runs.sum() != height * width:
        raise ValueError(f"the runs of a mask of {width}x{height} add up to {runs.sum()} pixels")
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(width, height).T


def _runs(text: str) -> list[int]:
    """Numbers of five bits a letter, the lowest first; from the fourth on the difference to the one before the last."""
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - _FIRST_LETTER
        if not 0 <= bits <= _FIVE_BITS | _MORE:
            raise ValueError(f"{letter!r} is no letter of a mask")
        value |= (bits & _FIVE_BITS) << shift
        shift += 5
        if bits & _MORE:
            continue
        if bits & _SIGN:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("the text of a mask is cut short")
    return runs
