"""Textures of the sprites world: how much of the second colour covers each pixel of a body.

At most two fifths of a body take the second colour, so the main colour stays the one that is seen most.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from refeval.sprites.brush import Brush
from refeval.sprites.shapes import Array, box, either, length


def texture_share(brush: Brush, texture: str) -> Array | None:
    """Share of the second colour, 0..1, shape (T, H, W), or None for ``plain``."""
    paint = _TEXTURES.get(texture)
    return None if paint is None else paint(brush)


def _to_nearest_line(position: Array, period: float) -> Array:
    cells = position * (1 / period)
    nearest: Array = np.abs(cells - np.floor(cells + 0.5)) * period
    return nearest


def _stripes(brush: Brush) -> Array:
    return brush.cover(_to_nearest_line((brush.x + brush.y) * 0.70710678, 0.46) - 0.085)


def _dots(brush: Brush) -> Array:
    x, y = _to_nearest_line(brush.x, 0.48), _to_nearest_line(brush.y, 0.48)
    return brush.cover(length(x, y) - 0.155)


def _checks(brush: Brush) -> Array:
    period, half = 0.6, 0.13
    even = box(_to_nearest_line(brush.x, period), _to_nearest_line(brush.y, period), half, half)
    x, y = brush.x + period / 2, brush.y + period / 2
    return brush.cover(either(even, box(_to_nearest_line(x, period), _to_nearest_line(y, period), half, half)))


def _rings(brush: Brush) -> Array:
    return brush.cover(_to_nearest_line(length(brush.x, brush.y), 0.46) - 0.085)


def _gradient(brush: Brush) -> Array:
    share: Array = np.minimum(np.maximum(brush.y * 0.85 + 0.1, 0), 0.9)
    return share


def _halves(brush: Brush) -> Array:
    return brush.cover(0.18 - brush.x)


_TEXTURES: Final[dict[str, Callable[[Brush], Array]]] = {
    "stripes": _stripes,
    "dots": _dots,
    "checks": _checks,
    "rings": _rings,
    "gradient": _gradient,
    "halves": _halves,
}
