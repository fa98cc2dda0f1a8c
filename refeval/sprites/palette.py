"""Named colours of the sprites world, and which of them a pixel is closest to."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Rgb = tuple[int, int, int]

COLOURS: Final[dict[str, Rgb]] = {
    "red": (215, 30, 40),
    "orange": (250, 130, 10),
    "yellow": (252, 222, 40),
    "lime": (150, 222, 50),
    "green": (15, 125, 55),
    "cyan": (40, 205, 225),
    "blue": (35, 85, 225),
    "purple": (125, 45, 180),
    "pink": (252, 110, 190),
    "brown": (120, 62, 22),
}
"""Main colours: any two are at least 85 apart in RGB."""

SECOND_COLOURS: Final[dict[str, Rgb]] = {**COLOURS, "white": (250, 250, 250), "black": (32, 32, 38)}
"""What a second colour is taken from."""

SKINS: Final[dict[str, Rgb]] = {
    "pale": (255, 222, 196),
    "tan": (238, 188, 146),
    "olive": (205, 152, 112),
    "dark": (158, 112, 84),
}
"""Skin tones of faces and people."""

TROUSERS: Final[Rgb] = (74, 82, 104)
SHOES: Final[Rgb] = (48, 44, 50)


def mix(first: Rgb, second: Rgb, share: float) -> Rgb:
    """``first`` with ``share`` (0..1) of ``second``."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def darker(colour: Rgb, share: float = 0.5) -> Rgb:
    """``colour`` with ``share`` (0..1) of black."""
    return mix(colour, (0, 0, 0), share)


_NEUTRALS: Final[tuple[Rgb, ...]] = (
    *SKINS.values(),
    *(darker(skin, 0.6) for skin in SKINS.values()),
    TROUSERS,
    SECOND_COLOURS["white"],
    SECOND_COLOURS["black"],
)


def colour_votes(pixels: npt.NDArray[np.uint8]) -> dict[str, int]:
    """How many pixels are closest to each main colour.

    Skin and its outline, trousers, white and black have votes of their own, which are left out: they say
    nothing of identity.

    Args:
        pixels: uint8 RGB, shape (N, 3), of a subject without its background.

    Returns:
        a count for every name of ``COLOURS``; the largest is the colour that the subject seems to have.
    """
    table = np.asarray([*COLOURS.values(), *_NEUTRALS], np.int32)
    distance = np.square(pixels.astype(np.int32)[:, None] - table).sum(-1)
    counts = np.bincount(distance.argmin(1), minlength=len(table))
    return {name: int(count) for name, count in zip(COLOURS, counts, strict=False)}
