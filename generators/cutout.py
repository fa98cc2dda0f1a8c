"""Cut-outs: the subject of a picture without its background.

A background of one colour is taken away by its distance from that colour, where it is connected with the
border; anything else goes through GrabCut. Edges are soft.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from refeval.errors import BadInput

_LARGEST_SIDE = 1024
_GRABCUT_SIDE = 320
_GRABCUT_ROUNDS = 4
# CIE Lab distances: JPEG noise and soft light on a studio backdrop stay below, clothes and objects do not.
_PLAIN_WITHIN = 9.0
_PLAIN_SHARE = 0.6
_SMALLEST_SHARE = 0.005

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Cutout:
    """A subject without its background, trimmed to its own size.

    Attributes:
        rgba: uint8, shape (H, W, 4), colours multiplied by alpha.
        cropped: the picture's lower edge cuts the subject (a portrait); it has no feet to stand on.
    """

    rgba: Picture
    cropped: bool


def read_picture(path: Path, *, where: str) -> Picture:
    """Read an image upright, at most 1024 pixels a side.

    Args:
        path: a file of any kind and mode that Pillow knows.
        where: case and file, for the message.

    Returns:
        uint8 RGBA, shape (H, W, 4), colours not multiplied by alpha.

    Raises:
        BadInput: not a readable image.
    """
    try:
        with Image.open(path) as image:
            image.draft("RGB", (_LARGEST_SIDE, _LARGEST_SIDE))
            upright = ImageOps.exif_transpose(image)
            rgba = _eight_bits(upright).convert("RGBA")
    # SyntaxError is what Pillow raises for a damaged PNG.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        cure = "give an image that Pillow can read (PNG, JPEG, WebP)"
        raise BadInput(f"{where}: not a readable image", details=(("reason", str(error)),), cure=cure) from error
    rgba.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(rgba, np.uint8)


def _eight_bits(image: Image.Image) -> Image.Image:
    if not image.mode.startswith(("I", "F")):
        return image
    # Pillow clips sixteen bits at 255 instead of scaling them.
    levels = np.asarray(image, np.float32)
    return Image.fromarray((levels * (255.0 / max(float(levels.max()), 1.0))).clip(0, 255).astype(np.uint8))


def cut_out(picture: Picture) -> Cutout:
    """The subject of a picture; the whole picture where none can be told from its surroundings.

    Args:
        picture: uint8 RGBA, shape (H, W, 4), as :func:`read_picture` gives it.
    """
    transparency = picture[..., 3]
    if np.mean(transparency < 128) > _SMALLEST_SHARE and transparency.max() >= 128:
        return _trim(picture[..., :3] * _fraction(transparency), transparency)
    colours = np.ascontiguousarray(picture[..., :3])
    backdrop = _plain_backdrop(colours)
    if backdrop is not None:
        alpha = _soft(_apart_from(colours, backdrop))
        if _is_subject(alpha):
            # What shines through a soft edge is the backdrop: it is subtracted, or a rim of it would stay.
            return _trim(colours - (1 - _fraction(alpha)) * backdrop.astype(np.float32), alpha)
    alpha = _soft(_grabcut(colours))
    if not _is_subject(alpha):
        alpha = np.full_like(alpha, 255)
    return _trim(colours * _fraction(alpha), alpha)


def whole(picture: Picture) -> Picture:
    """A picture over white: uint8 RGB, shape (H, W, 3)."""
    alpha = _fraction(picture[..., 3])
    return np.asarray(np.rint(picture[..., :3] * alpha + 255 * (1 - alpha)), np.uint8)


def _fraction(alpha: Picture) -> NDArray[np.float32]:
    return np.asarray(alpha[..., None], np.float32) / np.float32(255)


def _border(shape: tuple[int, ...]) -> Mask:
    height, width = shape[:2]
    strip = max(2, min(height, width) // 64)
    border = np.ones((height, width), bool)
    border[strip:-strip, strip:-strip] = False
    return border


def _lab(colours: Picture) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(colours.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)


def _plain_backdrop(colours: Picture) -> Picture | None:
    """The one colour, uint8 RGB, that most of the border has; None where it has many."""
    border = colours[_border(colours.shape)]
    colour = np.median(border, axis=0).astype(np.uint8)
    distance = np.linalg.norm(_lab(border[None])[0] - _lab(colour[None, None])[0, 0], axis=1)
    return colour if np.mean(distance < _PLAIN_WITHIN) >= _PLAIN_SHARE else None


def _apart_from(colours: Picture, backdrop: Picture) -> Mask:
    """Everything that the backdrop, coming in from the border, does not reach."""
    lab = cv2.GaussianBlur(_lab(colours), (3, 3), 0)
    near = np.linalg.norm(lab - _lab(backdrop[None, None])[0, 0], axis=2) < _PLAIN_WITHIN
    _, labels = cv2.connectedComponents(near.astype(np.uint8), connectivity=4)
    outside = np.unique(labels[_border(colours.shape) & near])
    return np.asarray(~(np.isin(labels, outside) & near))


def _grabcut(colours: Picture) -> Mask:
    height, width = colours.shape[:2]
    scale = min(_GRABCUT_SIDE / max(height, width), 1.0)
    size = (max(round(width * scale), 8), max(round(height * scale), 8))
    small = np.ascontiguousarray(cv2.resize(colours, size, interpolation=cv2.INTER_AREA)[..., ::-1])
    mask = _guess(size[0], size[1])
    # GrabCut starts from k-means, which draws from the generator of this thread.
    cv2.setRNGSeed(0)
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(small, mask, None, background, foreground, _GRABCUT_ROUNDS, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    inside = _main_parts((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)).astype(np.float32)
    return np.asarray(cv2.resize(inside, (width, height), interpolation=cv2.INTER_LINEAR) > 0.5)


def _guess(width: int, height: int) -> Picture:
    """Where a subject usually is: around the middle and down to the lower edge, not at the other three."""
    mask = np.full((height, width), cv2.GC_PR_BGD, np.uint8)
    centre, axes = (width // 2, round(height * 0.56)), (round(width * 0.32), round(height * 0.44))
    cv2.ellipse(mask, centre, axes, 0, 0, 360, int(cv2.GC_PR_FGD), -1)
    strip = max(1, min(width, height) // 40)
    mask[:strip] = mask[:, :strip] = mask[:, -strip:] = cv2.GC_BGD
    return mask


def _main_parts(mask: Mask) -> Mask:
    """Without specks: parts of at least a tenth of the largest one, their holes filled."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    areas = stats[1:, cv2.CC_STAT_AREA]
    kept = [i for i in range(1, count) if areas[i - 1] * 10 >= areas.max()]
    parts = np.isin(labels, kept)
    _, gaps = cv2.connectedComponents((~parts).astype(np.uint8), connectivity=4)
    rim = np.ones(parts.shape, bool)
    rim[1:-1, 1:-1] = False
    return np.asarray(parts | ~np.isin(gaps, np.unique(gaps[rim & ~parts])))


def _is_subject(alpha: Picture) -> bool:
    return bool(np.mean(alpha > 128) > _SMALLEST_SHARE)


def _soft(mask: Mask) -> Picture:
    """Alpha, uint8: an edge two pixels wide that lies inside the mask, so that no backdrop shows."""
    # Outside the picture counts as inside the mask: what the picture's edge cuts off stays sharp there.
    inside = cv2.erode(mask.astype(np.float32), np.ones((3, 3), np.uint8), borderValue=1.0)
    return np.rint(cv2.GaussianBlur(inside, (0, 0), 0.8, borderType=cv2.BORDER_REPLICATE) * 255).astype(np.uint8)


def _trim(premultiplied: NDArray[np.floating], alpha: Picture) -> Cutout:
    ys, xs = np.flatnonzero((alpha > 16).any(axis=1)), np.flatnonzero((alpha > 16).any(axis=0))
    colours = np.rint(np.clip(premultiplied, 0, alpha[..., None])).astype(np.uint8)
    # One clear pixel all around: interpolation then fades the edge out instead of cutting it.
    rgba = np.dstack([colours, alpha])[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    cropped = float(np.mean(alpha[-2:] > 128)) > 0.2
    return Cutout(cv2.copyMakeBorder(rgba, 1, 1, 1, 1, cv2.BORDER_CONSTANT).astype(np.uint8), cropped)
