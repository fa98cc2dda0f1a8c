"""How pictures of references are changed, so that a network cannot copy them into the clip they were cut from.

Flip, perspective, affine map and crop are one warp: perspective moves corners inwards and a crop looks at a part, so
nothing is cut off in between that would be seen at the end, and the picture is interpolated once instead of four times.

Source: RefAlign (arXiv 2603.25743) section 3.3 names the operations; order and strengths are those of its code @6f91526
diffsynth/trainers/__pycache__ (``SubjectAugConfig``, recovered from bytecode). Differs: one warp; colour and brightness
are rounded once. Its strengths of crop and blur are not known: they stand in this module.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from refeval.training.recipe import AugmentationSettings

Picture = NDArray[np.uint8]
_Matrix = NDArray[np.float64]

_WHITE = (255, 255, 255)
# Smallest share of a side that a crop leaves, and the widest blur as a share of the longer side.
_SMALLEST_CROP = 0.8
_WIDEST_BLUR = 0.004
# A narrower blur changes no value.
_NARROWEST_BLUR = 0.2


def augment(picture: Picture, settings: AugmentationSettings, rng: np.random.Generator) -> Picture:
    """Change a picture at random: flip, perspective, affine map, crop, blur, colour, brightness.

    The same random numbers are drawn whatever the settings are, so an operation can be switched off and the others stay
    as they were. With every setting 0 the picture is returned as it is.

    Args:
        picture: uint8 RGB (H, W, 3).
        settings: how much of each.
        rng: where the random numbers come from.

    Returns:
        uint8 RGB (H, W, 3), white where nothing of the picture is; the argument is not changed.
    """
    height, width = picture.shape[:2]
    matrix = _geometry(height, width, settings, rng)
    blurred, sigma = rng.random() < settings.blur, rng.uniform(0, _WIDEST_BLUR) * max(height, width)
    levels = _levels(settings, rng)
    if not np.array_equal(matrix, np.eye(3)):
        picture = cv2.warpPerspective(
            picture, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=_WHITE
        ).astype(np.uint8, copy=False)
    if blurred and sigma > _NARROWEST_BLUR:
        picture = cv2.GaussianBlur(picture, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE).astype(np.uint8, copy=False)
    if levels is not None:
        picture = cv2.LUT(picture, levels).astype(np.uint8, copy=False)
    return picture


def _geometry(height: int, width: int, settings: AugmentationSettings, rng: np.random.Generator) -> _Matrix:
    """Where a pixel goes; coordinates are those of centres of pixels."""
    matrix = np.eye(3)
    if rng.random() < settings.flip:
        matrix = np.array([[-1.0, 0, width - 1], [0, 1, 0], [0, 0, 1]])
    bent, shifts = rng.random() < settings.perspective, rng.random((4, 2))
    if bent:
        matrix = _perspective(height, width, settings.perspective_strength * shifts) @ matrix
    matrix = _affine(height, width, settings, rng) @ matrix
    cropped, share, place = rng.random() < settings.crop, rng.uniform(_SMALLEST_CROP, 1), rng.random(2)
    if cropped:
        left, top = place * (1 - share) * (width - 1, height - 1)
        matrix = np.array([[1 / share, 0, -left / share], [0, 1 / share, -top / share], [0, 0, 1]]) @ matrix
    return matrix


def _perspective(height: int, width: int, shifts: NDArray[np.float64]) -> _Matrix:
    """Move each corner inwards, by shares (4, 2) of half the width and half the height."""
    # A line of one pixel has four corners too.
    right, bottom = max(width - 1, 1), max(height - 1, 1)
    corners = np.array([[0, 0], [right, 0], [right, bottom], [0, bottom]], np.float32)
    inwards = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    moved = corners + inwards * shifts * (width / 2, height / 2)
    return np.asarray(cv2.getPerspectiveTransform(corners, moved.astype(np.float32)), np.float64)


def _affine(height: int, width: int, settings: AugmentationSettings, rng: np.random.Generator) -> _Matrix:
    """Turn, shear and scale about the centre, and shift."""
    angle, along_x, along_y = np.deg2rad(rng.uniform(-1, 1, 3) * (settings.rotate, settings.shear, settings.shear))
    scale = 1 + rng.uniform(-1, 1) * settings.scale
    shift = rng.uniform(-1, 1, 2) * settings.translate * (width, height)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shear = np.array([[1, np.tan(along_x)], [np.tan(along_y), 1]])
    matrix = np.eye(3)
    matrix[:2, :2] = scale * turn @ shear
    centre = np.array([width - 1, height - 1]) / 2
    matrix[:2, 2] = centre - matrix[:2, :2] @ centre + shift
    return matrix


def _levels(settings: AugmentationSettings, rng: np.random.Generator) -> NDArray[np.uint8] | None:
    """New values of each channel for the values 0 to 255, shape (1, 256, 3); None: they stay."""
    colour = rng.uniform(-1, 1, 3) * settings.colour
    brightness = 1 + rng.uniform(-1, 1) * settings.brightness
    if not settings.colour and not settings.brightness:
        return None
    coloured = (np.arange(256)[:, None] / 255 + colour).clip(0, 1)
    levels: NDArray[np.uint8] = np.rint((coloured * brightness).clip(0, 1) * 255).astype(np.uint8)
    return levels[None]
