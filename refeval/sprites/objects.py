"""How the objects of the sprites world are painted: a textured body and what makes it a thing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from refeval.sprites.brush import LINE, Brush
from refeval.sprites.palette import COLOURS, SECOND_COLOURS, darker, mix
from refeval.sprites.shapes import BODIES, Array, both, box, capsule, circle, either, ellipse, trapezoid
from refeval.sprites.subjects import Subject
from refeval.sprites.textures import texture_share

_WHITE: Final = (255, 255, 255)
_INK: Final = (36, 34, 44)
_CREAM: Final = (250, 240, 214)
_GLASS: Final = (196, 228, 244)


def paint_object(brush: Brush, subject: Subject) -> None:
    """Paint an object within 1.05 of the origin of the brush."""
    under = _UNDER.get(subject.shape)
    if under:
        under(brush)
    distance = BODIES[subject.shape](brush.x, brush.y)
    body = brush.outline(distance, COLOURS[subject.colour])
    pattern = texture_share(brush, subject.texture)
    if pattern is not None:
        brush.paint(body * pattern, SECOND_COLOURS[subject.second])
    over = _OVER.get(subject.shape)
    if over:
        over(brush, subject, body)


def _shine(brush: Brush, _subject: Subject, body: Array) -> None:
    spot = brush.cover(ellipse(brush.x + 0.34 - 0.4 * (brush.y + 0.4), brush.y + 0.42, 0.2, 0.13))
    brush.paint(spot * body * 0.55, _WHITE)


def _mushroom_stem(brush: Brush) -> None:
    brush.outline(box(brush.x, brush.y - 0.46, 0.32, 0.44, 0.2), _CREAM)


def _crate(brush: Brush, subject: Subject, body: Array) -> None:
    lid = brush.cover(np.abs(brush.y + 0.36) - LINE / 2)
    brush.paint(lid * body, darker(COLOURS[subject.colour], 0.6))


def _facets(brush: Brush, subject: Subject, body: Array) -> None:
    side = np.abs(brush.x)
    lines = np.abs(brush.y + 0.15) - LINE / 2
    lines = either(lines, capsule(side, brush.y, (0.0, 0.85), (0.36, -0.15), LINE / 2))
    lines = either(lines, capsule(side, brush.y, (0.36, -0.15), (0.0, -0.6), LINE / 2))
    brush.paint(brush.cover(lines) * body, mix(COLOURS[subject.colour], _WHITE, 0.65))


def _flower_heart(brush: Brush, subject: Subject, _body: Array) -> None:
    brush.outline(circle(brush.x, brush.y, 0.27), SECOND_COLOURS[subject.second])


def _cup_rim(brush: Brush, subject: Subject, _body: Array) -> None:
    edge = darker(COLOURS[subject.colour], 0.6)
    brush.fill(ellipse(brush.x + 0.14, brush.y + 0.66, 0.66, 0.17), edge)
    brush.fill(ellipse(brush.x + 0.14, brush.y + 0.66, 0.57, 0.1), (92, 58, 40))


def _fish_face(brush: Brush, subject: Subject, body: Array) -> None:
    edge = darker(COLOURS[subject.colour], 0.6)
    gill = both(np.abs(circle(brush.x - 0.1, brush.y, 0.36)) - LINE / 2, 0.3 - brush.x)
    brush.paint(brush.cover(gill) * body, edge)
    brush.dot(circle(brush.x - 0.62, brush.y + 0.14, 0.12), _WHITE, 0.12)
    brush.dot(circle(brush.x - 0.65, brush.y + 0.14, 0.07), _INK, 0.07)


def _car_parts(brush: Brush, _subject: Subject, _body: Array) -> None:
    windows = trapezoid(brush.x + 0.12, brush.y, 0.28, 0.44, -0.42, -0.08)
    brush.fill(both(windows, 0.03 - np.abs(brush.x + 0.12)), _GLASS)
    brush.dot(ellipse(brush.x - 0.84, brush.y - 0.1, 0.08, 0.1), (255, 244, 170), 0.08)
    wheel = circle(np.abs(brush.x) - 0.5, brush.y - 0.5, 0.25)
    brush.fill(wheel, _INK)
    brush.fill(wheel + 0.14, (214, 214, 222))


def _house_parts(brush: Brush, subject: Subject, _body: Array) -> None:
    edge = darker(COLOURS[subject.colour], 0.6)
    brush.fill(capsule(brush.x, brush.y, (-0.9, 0.0), (0.9, 0.0), LINE / 2), edge)
    brush.outline(box(brush.x - 0.24, brush.y - 0.58, 0.17, 0.3), _CREAM)
    brush.outline(box(brush.x + 0.28, brush.y - 0.4, 0.17, 0.15), _GLASS)


_UNDER: Final[dict[str, Callable[[Brush], object]]] = {"mushroom": _mushroom_stem}
_OVER: Final[dict[str, Callable[[Brush, Subject, Array], None]]] = {
    "star": _shine,
    "heart": _shine,
    "ball": _shine,
    "mushroom": _shine,
    "box": _crate,
    "diamond": _facets,
    "flower": _flower_heart,
    "cup": _cup_rim,
    "fish": _fish_face,
    "car": _car_parts,
    "house": _house_parts,
}
