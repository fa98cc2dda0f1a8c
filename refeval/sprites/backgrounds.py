"""Backgrounds of the sprites world: a kind, and a variant that moves and tints it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from refeval.sprites.brush import Brush
from refeval.sprites.palette import Rgb, mix
from refeval.sprites.shapes import Array, box, circle, either, ellipse

VARIANTS: Final = 10_000


@dataclass(frozen=True, kw_only=True)
class Background:
    """The identity of a background.

    Attributes:
        kind: one of BACKGROUNDS.
        variant: 0 to 9999; places clouds, stars and tiles, and tints the whole.

    Raises:
        ValueError: an unknown kind or a variant out of range.
    """

    kind: str
    variant: int = 0

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"background '{self.kind}'; known: {', '.join(BACKGROUNDS)}")
        if not 0 <= self.variant < VARIANTS:
            raise ValueError(f"variant {self.variant} of a background; known: 0 to {VARIANTS - 1}")

    @property
    def label(self) -> str:
        """The class label, e.g. ``Beach``."""
        return _KINDS[self.kind][0]

    def describe(self) -> str:
        """Where a scene takes place, in English, e.g. ``in front of a brick wall``."""
        return _KINDS[self.kind][1]


def draw_background(background: Background, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Draw a background.

    Returns:
        uint8 RGB, shape (height, width, 3).
    """
    rgb = paint_background(background, height, width) + 0.5
    return np.ascontiguousarray(rgb[:, 0].transpose(1, 2, 0).astype(np.uint8))


def paint_background(background: Background, height: int, width: int) -> Array:
    """:func:`draw_background` as a float32 canvas of shape (3, 1, height, width), 0..255."""
    y = ((np.arange(height, dtype=np.float32) + 0.5) / height).reshape(1, height, 1)
    x = ((np.arange(width, dtype=np.float32) + 0.5) / height).reshape(1, 1, width)
    grid_x, grid_y = np.broadcast_arrays(x, y)
    brush = Brush(
        rgb=np.zeros((3, 1, height, width), np.float32),
        x=np.ascontiguousarray(grid_x),
        y=np.ascontiguousarray(grid_y),
        pixels=np.full((1, 1, 1), height, np.float32),
    )
    _KINDS[background.kind][2](brush, background.variant)
    # A tint of a few per cent tells variants apart without changing what they are.
    tint = [0.92 + 0.08 * _chance(background.variant, channel) for channel in range(3)]
    brush.rgb[...] *= np.asarray(tint, np.float32).reshape(3, 1, 1, 1)
    return brush.rgb


def _chance(variant: int, index: int) -> float:
    """A number in 0..1 that depends on both arguments and on nothing else."""
    mixed = (variant * 2654435761 + (index + 1) * 2246822519) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 15)) * 2246822519) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 13)) * 3266489917) & 0xFFFFFFFF
    return ((mixed ^ (mixed >> 16)) & 0xFFFF) / 65536


def _cell_chance(x: Array, y: Array, variant: int) -> Array:
    """:func:`_chance` of the integer cells that hold each coordinate, float32."""
    mixed = np.floor(x).astype(np.int64) * 374761393 + np.floor(y).astype(np.int64) * 668265263
    mixed = (mixed + variant * 2654435761) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 13)) * 1274126177) & 0xFFFFFFFF
    return (((mixed ^ (mixed >> 16)) & 0xFFFF) * (1 / 65536)).astype(np.float32)


def _wave(position: Array) -> Array:
    """A smooth wave of period 1 between 0 and 1, made of parabolas."""
    phase = np.abs(position - np.floor(position) - 0.5) * 2
    smooth: Array = phase * phase * (3 - 2 * phase)
    return smooth


def _shade(brush: Brush, top: Rgb, bottom: Rgb) -> None:
    first = np.asarray(top, np.float32).reshape(3, 1, 1, 1)
    step = np.asarray(bottom, np.float32).reshape(3, 1, 1, 1) - first
    brush.rgb[...] = first + step * brush.y


def _clouds(brush: Brush, variant: int, height: float) -> None:
    for index in range(3):
        x = brush.x - (0.05 + 0.62 * index + 0.25 * _chance(variant, 10 + index))
        y = brush.y - height * (0.35 + 0.65 * _chance(variant, 20 + index))
        puffs = either(ellipse(x, y, 0.19, 0.06), circle(x + 0.03, y + 0.05, 0.07))
        brush.paint(brush.cover(puffs) * 0.9, (250, 252, 255))


def _sky(brush: Brush, variant: int) -> None:
    _shade(brush, (104, 170, 232), (206, 232, 250))
    _clouds(brush, variant, 0.8)


def _grass(brush: Brush, variant: int) -> None:
    _shade(brush, (146, 192, 104), (96, 152, 72))
    for index, (scale, colour) in enumerate((((9.0, 5.5), (72, 130, 56)), ((7.0, 4.5), (178, 210, 118)))):
        y = brush.y * scale[1] + _chance(variant, index)
        row = np.floor(y)
        x = brush.x * scale[0] + 0.37 * row + _chance(variant, 2 + index)
        lean = (_cell_chance(x, y, variant + index) - 0.5) * (1 - y + row)
        blade = np.abs(x - np.floor(x) - 0.5 - 0.6 * lean) - 0.2 * (y - row)
        brush.paint(brush.cover(blade * (1 / scale[0])) * 0.6, colour)


def _sand(brush: Brush, variant: int) -> None:
    _shade(brush, (238, 216, 168), (222, 190, 134))
    ripple = _wave(brush.y * 9 + 0.7 * _wave(brush.x * 1.3 + _chance(variant, 1)) + _chance(variant, 2))
    brush.paint(ripple * 0.4, (196, 156, 102))


def _night(brush: Brush, variant: int) -> None:
    _shade(brush, (20, 24, 62), (62, 58, 112))
    x, y = brush.x * 7, brush.y * 7
    chance = _cell_chance(x, y, variant)
    jitter = chance * 7 - np.floor(chance * 7)
    star = circle(x - np.floor(x) - 0.3 - 0.4 * chance, y - np.floor(y) - 0.2 - 0.6 * jitter, 0.09)
    brush.paint(brush.cover(star * (1 / 7)) * (chance < 0.55), (255, 250, 214))
    brush.fill(circle(brush.x - 0.2 - 0.6 * _chance(variant, 1), brush.y - 0.2, 0.11), (250, 242, 200))


def _brick(brush: Brush, variant: int) -> None:
    y = brush.y * 8
    row = np.floor(y)
    x = brush.x * 4 + 0.5 * (row - 2 * np.floor(row * 0.5)) + _chance(variant, 1)
    chance = _cell_chance(x, y, variant)
    brush.rgb[...] = np.asarray((206, 198, 188), np.float32).reshape(3, 1, 1, 1)
    bricks = box((x - np.floor(x) - 0.5) * 0.25, (y - row - 0.5) * 0.125, 0.115, 0.053)
    share = brush.fill(bricks, (166, 86, 68))
    brush.paint(share * chance * 0.5, (120, 56, 48))


def _tiles(brush: Brush, variant: int) -> None:
    x, y = brush.x * 5 + _chance(variant, 1), brush.y * 5 + _chance(variant, 2)
    _shade(brush, (226, 220, 208), (236, 230, 220))
    across, down = np.abs(x - 2 * np.floor(x * 0.5) - 1) - 0.5, np.abs(y - 2 * np.floor(y * 0.5) - 1) - 0.5
    # The product of both waves changes sign at every edge of a checkerboard.
    nearest = np.minimum(np.abs(across), np.abs(down)) * np.sign(across * down)
    brush.fill(nearest * 0.2, (128, 136, 148))


def _hills(brush: Brush, variant: int) -> None:
    _shade(brush, (150, 200, 238), (226, 240, 246))
    _clouds(brush, variant, 0.3)
    for index, green in enumerate(((150, 186, 140), (116, 166, 104), (84, 140, 80))):
        wave = _wave(brush.x * (0.9 + 0.35 * index) + _chance(variant, index + 1))
        brush.fill((0.44 + 0.2 * index + 0.16 * wave - brush.y) * 0.85, green)


def _snow(brush: Brush, variant: int) -> None:
    _shade(brush, (172, 192, 214), (206, 220, 234))
    drift = _wave(brush.x * 0.7 + _chance(variant, 1))
    brush.fill((0.66 + 0.12 * drift - brush.y) * 0.9, (240, 245, 250))
    for scale in (6.0, 9.0):
        x, y = brush.x * scale + _chance(variant, 3), brush.y * scale
        chance = _cell_chance(x, y, variant)
        flake = circle(x - np.floor(x) - 0.3 - 0.4 * chance, y - np.floor(y) - 0.3 - 0.4 * chance, 0.14)
        brush.paint(brush.cover(flake * (1 / scale)) * 0.9, (255, 255, 255))


def _sea(brush: Brush, variant: int) -> None:
    _shade(brush, (96, 164, 186), (36, 92, 132))
    for index in range(5):
        crest = 0.24 + 0.17 * index + 0.05 * _wave(brush.x * 3.2 + _chance(variant, index))
        foam = np.abs(brush.y - crest) - 0.012
        brush.paint(brush.cover(foam) * 0.7, (214, 238, 240))
    brush.fill(brush.y - 0.2, (206, 226, 236))


def _room(brush: Brush, variant: int) -> None:
    _shade(brush, (226, 206, 196), (214, 190, 180))
    x = brush.x * 6 + _chance(variant, 1)
    brush.paint(brush.cover((np.abs(x - np.floor(x) - 0.5) - 0.25) * (1 / 6)) * 0.5, (204, 168, 166))
    brush.fill(0.74 - brush.y, (150, 112, 84))
    boards = brush.x * 3 + _chance(variant, 2)
    gap = brush.cover((np.abs(boards - np.floor(boards) - 0.5) - 0.03) * (1 / 3))
    brush.paint(gap * (brush.y > 0.78), (112, 80, 60))
    brush.fill(np.abs(brush.y - 0.755) - 0.025, (246, 240, 232))


def _forest(brush: Brush, variant: int) -> None:
    _shade(brush, (188, 206, 190), (120, 146, 116))
    for index in range(3):
        scale = 4.6 - index
        x = brush.x * scale + _chance(variant, index)
        chance = _cell_chance(x, x * 0, variant + index)
        trunk = (np.abs(x - np.floor(x) - 0.35 - 0.3 * chance) - 0.1) * (1 / scale)
        brush.fill(trunk, mix((142, 138, 122), (74, 60, 52), index / 2))
    brush.fill(0.86 - brush.y + 0.04 * _wave(brush.x * 2), (88, 112, 74))


_KINDS: Final[dict[str, tuple[str, str, Callable[[Brush, int], None]]]] = {
    "sky": ("Sky", "high in a blue sky with white clouds", _sky),
    "grass": ("Grassland", "on a meadow of green grass", _grass),
    "sand": ("Beach", "on a beach of rippled sand", _sand),
    "night": ("Night", "under a starry night sky", _night),
    "brick": ("Wall", "in front of a brick wall", _brick),
    "tiles": ("Floor", "on a floor of grey and white tiles", _tiles),
    "hills": ("Park", "in a park with green hills", _hills),
    "snow": ("Snowfield", "on a snowfield while snow falls", _snow),
    "sea": ("Seaside", "in front of the sea with its waves", _sea),
    "room": ("Room", "in a room with striped wallpaper", _room),
    "forest": ("Forest", "in a forest of dark trunks", _forest),
}
BACKGROUNDS: Final = tuple(_KINDS)
