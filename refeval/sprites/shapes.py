"""Signed distances of plane figures: negative inside, about one per unit near the outline.

Every figure takes coordinates ``x`` (to the right) and ``y`` (down), float32 arrays of one shape, and returns
a float32 array of that shape. Only operations that IEEE 754 rounds exactly are used (no sine, no power of an
array), so every machine draws the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
Figure = Callable[[Array, Array], Array]

# Cosine and sine of 36 degrees: a fifth of a turn, halved by symmetry.
_COS36: Final = 0.80901699
_SIN36: Final = 0.58778525


def length(x: Array, y: Array) -> Array:
    """Distance from the origin."""
    squared: Array = np.sqrt(x * x + y * y)
    return squared


def either(first: Array, second: Array) -> Array:
    """The union of two figures."""
    distance: Array = np.minimum(first, second)
    return distance


def both(first: Array, second: Array | float) -> Array:
    """What two figures have in common."""
    distance: Array = np.maximum(first, second)
    return distance


def circle(x: Array, y: Array, radius: float) -> Array:
    """A disc around the origin."""
    return length(x, y) - radius


def ellipse(x: Array, y: Array, width: float, height: float) -> Array:
    """An ellipse with half axes ``width`` and ``height``; exact only near the shorter axis."""
    return (length(x * (1 / width), y * (1 / height)) - 1) * min(width, height)


def box(x: Array, y: Array, width: float, height: float, corner: float = 0.0) -> Array:
    """A rectangle with half sides ``width`` and ``height`` and rounded corners."""
    across, down = np.abs(x) - (width - corner), np.abs(y) - (height - corner)
    if not corner:
        return both(across, down)
    outside = length(np.maximum(across, 0), np.maximum(down, 0))
    return outside + np.minimum(np.maximum(across, down), 0) - corner


def capsule(x: Array, y: Array, start: tuple[float, float], end: tuple[float, float], radius: float) -> Array:
    """A line from ``start`` to ``end`` with round ends."""
    along_x, along_y = end[0] - start[0], end[1] - start[1]
    x, y = x - start[0], y - start[1]
    scale = 1 / (along_x * along_x + along_y * along_y)
    share = np.minimum(np.maximum(x * (along_x * scale) + y * (along_y * scale), 0), 1)
    return length(x - share * along_x, y - share * along_y) - radius


def plane(x: Array, y: Array, towards: tuple[float, float], distance: float) -> Array:
    """Everything on the near side of a line ``distance`` away in the direction ``towards`` (any length)."""
    scale = 1 / math.sqrt(towards[0] * towards[0] + towards[1] * towards[1])
    return x * (towards[0] * scale) + y * (towards[1] * scale) - distance


def trapezoid(x: Array, y: Array, top: float, bottom: float, above: float, below: float) -> Array:
    """Symmetric about x = 0: half width ``top`` at y = ``above`` growing to ``bottom`` at y = ``below``."""
    slope = (bottom - top) / (below - above)
    side = (np.abs(x) - top - (y - above) * slope) * (1 / math.sqrt(1 + slope * slope))
    return both(side, both(above - y, y - below))


def five_fold(x: Array, y: Array) -> tuple[Array, Array]:
    """Coordinates in one tenth of a five-pointed figure; its points lie on x = 0, y > 0 (a point is up)."""
    x, y = np.abs(x), -y
    away = 2 * np.maximum(_COS36 * x - _SIN36 * y, 0)
    x, y = x - away * _COS36, y + away * _SIN36
    away = 2 * np.maximum(-_COS36 * x - _SIN36 * y, 0)
    return np.abs(x + away * _COS36), y + away * _SIN36


def star(x: Array, y: Array) -> Array:
    """A five-pointed star."""
    x, y = five_fold(x, y)
    y = y - 0.98
    side_x, side_y = 0.54 * _SIN36, 0.54 * _COS36 - 1
    scale = 1 / (side_x * side_x + side_y * side_y)
    share = np.minimum(np.maximum(x * (side_x * scale) + y * (side_y * scale), 0), 0.98)
    return length(x - share * side_x, y - share * side_y) * np.sign(y * side_x - x * side_y)


def heart(x: Array, y: Array) -> Array:
    """A heart: two discs and the wedge below them."""
    x, y = np.abs(x), y + 0.02
    wedge = both(plane(x, y, (0.738, 0.675), 0.608), plane(x, y, (0.441, -0.898), 0.314))
    return either(circle(x - 0.42, y + 0.3, 0.5), wedge)


def ball(x: Array, y: Array) -> Array:
    """A disc."""
    return circle(x, y, 0.88)


def crate(x: Array, y: Array) -> Array:
    """A square with round corners."""
    return box(x, y, 0.76, 0.76, 0.14)


def diamond(x: Array, y: Array) -> Array:
    """A cut stone seen from the side."""
    x = np.abs(x)
    shoulder = plane(x, y, (1.0, -1.0), 0.742)
    return both(both(-0.6 - y, shoulder), plane(x, y, (1.05, 0.9), 0.585))


def moon(x: Array, y: Array) -> Array:
    """A crescent, open to the upper right."""
    return both(circle(x, y, 0.92), 0.72 - length(x - 0.44, y + 0.2))


def flower(x: Array, y: Array) -> Array:
    """Five round petals."""
    x, y = five_fold(x, y)
    return either(circle(x, y - 0.54, 0.4), length(x, y) - 0.4)


def cup(x: Array, y: Array) -> Array:
    """A mug with its handle on the right."""
    handle = np.abs(length(x - 0.44, y - 0.05) - 0.34) - 0.1
    return either(trapezoid(x + 0.14, y, 0.62, 0.5, -0.66, 0.74), handle)


def fish(x: Array, y: Array) -> Array:
    """A fish that looks to the right."""
    tail = trapezoid(y, -x, 0.1, 0.5, 0.4, 0.92)
    return either(ellipse(x - 0.2, y, 0.74, 0.5), tail)


def car(x: Array, y: Array) -> Array:
    """A car body that looks to the right; wheels are painted on."""
    cabin = trapezoid(x + 0.12, y, 0.34, 0.56, -0.5, 0.0) - 0.04
    return either(cabin, box(x, y - 0.2, 0.95, 0.3, 0.16))


def house(x: Array, y: Array) -> Array:
    """Walls and a gable."""
    return either(box(x, y - 0.42, 0.64, 0.46), trapezoid(x, y, 0.02, 0.92, -0.9, 0.0))


def mushroom(x: Array, y: Array) -> Array:
    """The cap; the stem is painted below it."""
    return both(ellipse(x, y - 0.12, 0.94, 0.98), y - 0.14)


BODIES: Final[dict[str, Figure]] = {
    "star": star,
    "heart": heart,
    "ball": ball,
    "box": crate,
    "diamond": diamond,
    "moon": moon,
    "flower": flower,
    "cup": cup,
    "fish": fish,
    "car": car,
    "house": house,
    "mushroom": mushroom,
}
"""The body of every object shape, within 1 of the origin."""
