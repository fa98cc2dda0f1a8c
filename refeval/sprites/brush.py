"""A brush that paints figures onto a stack of frames, anti-aliased, at any resolution."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from refeval.sprites.palette import Rgb, darker
from refeval.sprites.shapes import Array

LINE: Final = 0.055
"""Width of an outline in the units of the brush."""


@dataclass(frozen=True, kw_only=True)
class Brush:
    """A canvas seen in the coordinates of what is painted on it.

    Attributes:
        rgb: float32 canvas, shape (3, T, H, W), 0..255; painting changes it.
        x: to the right, in the units of the figure, float32, shape (T, H, W).
        y: down, like ``x``.
        pixels: how many pixels one unit is long, float32, shape (T, 1, 1).
    """

    rgb: Array
    x: Array
    y: Array
    pixels: Array

    def at(self, x: float, y: float, scale: float = 1.0) -> Brush:
        """The same canvas with the origin moved to (x, y) and a unit that is ``scale`` of the present one."""
        return replace(self, x=(self.x - x) * (1 / scale), y=(self.y - y) * (1 / scale), pixels=self.pixels * scale)

    def cover(self, distance: Array) -> Array:
        """Share (0..1) of every pixel inside a figure, from its signed distance."""
        share = distance * -self.pixels
        share += 0.5
        np.maximum(share, 0, out=share)
        return np.minimum(share, 1, out=share)

    def paint(self, share: Array, colour: Rgb) -> None:
        """Lay ``share`` (0..1, shape (T, H, W)) of a colour over the canvas."""
        ink = np.asarray(colour, np.float32).reshape(3, 1, 1, 1) - self.rgb
        ink *= share
        self.rgb[...] += ink

    def fill(self, distance: Array, colour: Rgb) -> Array:
        """Paint a figure and return its share of every pixel, shape (T, H, W)."""
        share = self.cover(distance)
        self.paint(share, colour)
        return share

    def outline(self, distance: Array, colour: Rgb, width: float = LINE) -> Array:
        """:meth:`fill` with a darker edge of ``width`` units around the figure."""
        self.paint(self.cover(distance - width), darker(colour, 0.6))
        return self.fill(distance, colour)

    def dot(self, distance: Array, colour: Rgb, radius: float) -> None:
        """:meth:`fill` for a figure as small as ``radius``, faint where it is thinner than a pixel.

        Without it an eye would cover half of a pixel at least, and small pictures would turn dark.
        """
        share = self.cover(distance)
        share *= np.minimum(2 * radius * self.pixels, 1)
        self.paint(share, colour)
