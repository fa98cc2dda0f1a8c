"""How faces and whole people of the sprites world are painted; both have the same head."""

from __future__ import annotations

from typing import Final

import numpy as np

from refeval.sprites.brush import LINE, Brush
from refeval.sprites.palette import SECOND_COLOURS, SHOES, SKINS, TROUSERS, Rgb, darker, mix
from refeval.sprites.shapes import Array, both, box, capsule, circle, either, ellipse, trapezoid
from refeval.sprites.subjects import Subject
from refeval.sprites.textures import texture_share

_WHITE: Final = (255, 255, 255)
_INK: Final = (40, 32, 36)
_GOLD: Final = (250, 205, 70)
_LIPS: Final = (176, 52, 62)
_BLUSH: Final = (240, 110, 110)

# Half width of shoulders and waist, and size of the head, by build.
_BUILDS: Final = {
    "slim": (0.20, 0.17, 0.36),
    "broad": (0.33, 0.22, 0.36),
    "tall": (0.22, 0.20, 0.29),
    "round": (0.27, 0.36, 0.36),
}

_BARE_ARMS: Final = frozenset({"vest", "dress"})
_SHORT_HAIRS: Final = frozenset({"short", "spiky", "parted"})


def paint_face(brush: Brush, subject: Subject) -> None:
    """Paint a head with shoulders: within 0.95 across and 1 down of the origin of the brush."""
    skin = SKINS[subject.skin]
    head = brush.at(0.0, -0.16, 0.76)
    _hair_behind(head, subject, SECOND_COLOURS[subject.colour])
    shoulders = both(ellipse(brush.x, brush.y - 1.04, 0.68, 0.36), brush.y - 0.97)
    if subject.clothes in _BARE_ARMS:
        brush.outline(shoulders, skin, LINE / 2)
        shoulders = both(shoulders, np.abs(brush.x) - 0.42)
    _clothe(brush, shoulders, subject, SECOND_COLOURS[subject.second])
    neck = both(box(brush.x, brush.y - 0.58, 0.17, 0.2), ellipse(brush.x, brush.y - 0.5, 0.3, 0.3))
    brush.fill(neck, darker(skin, 0.14))
    _paint_head(head, subject, SECOND_COLOURS[subject.colour])


def paint_human(brush: Brush, subject: Subject) -> None:
    """Paint a whole person: within 0.7 across and 1 down of the origin of the brush."""
    shoulder, waist, head_size = _BUILDS[subject.shape]
    chin = -1.0 + 1.86 * head_size
    head = brush.at(0.0, -1.0 + 1.02 * head_size, head_size)
    _hair_behind(head, subject, SECOND_COLOURS[subject.second])
    _legs(brush, subject, waist)
    _arms(brush, subject, shoulder, chin)
    skin = SKINS[subject.skin]
    brush.fill(box(brush.x, brush.y - chin, 0.07, 0.1), darker(skin, 0.14))
    _clothe(brush, _garment(brush, subject, shoulder, waist, chin), subject, SECOND_COLOURS[subject.colour])
    _paint_head(head, subject, SECOND_COLOURS[subject.second])


def _legs(brush: Brush, subject: Subject, waist: float) -> None:
    side, apart = np.abs(brush.x), 0.55 * waist
    bare = subject.clothes == "dress"
    leg = capsule(side, brush.y, (apart, 0.3), (apart, 0.86), 0.07 if bare else 0.1)
    brush.outline(leg, SKINS[subject.skin] if bare else TROUSERS, LINE / 2)
    brush.fill(both(ellipse(side - apart - 0.03, brush.y - 0.95, 0.14, 0.09), brush.y - 0.97), SHOES)


def _arms(brush: Brush, subject: Subject, shoulder: float, chin: float) -> None:
    side = np.abs(brush.x)
    top, hand = (shoulder - 0.04, chin + 0.13), (shoulder + 0.17, chin + 0.55)
    brush.outline(capsule(side, brush.y, top, hand, 0.075), SKINS[subject.skin], LINE / 2)
    if subject.clothes not in _BARE_ARMS:
        wrist = (shoulder + 0.14, chin + 0.46)
        brush.outline(capsule(side, brush.y, top, wrist, 0.085), SECOND_COLOURS[subject.colour], LINE / 2)


def _garment(brush: Brush, subject: Subject, shoulder: float, waist: float, chin: float) -> Array:
    bottom, flare = {"dress": (0.56, 0.16), "coat": (0.6, 0.05)}.get(subject.clothes, (0.34, 0.02))
    hem = waist + flare - 0.05
    torso = trapezoid(brush.x, brush.y, shoulder - 0.05, hem, chin + 0.1, bottom - 0.05) - 0.05
    belly = ellipse(brush.x, brush.y - 0.12, 0.4, 0.34) if subject.shape == "round" else torso
    return either(torso, belly)


def _clothe(brush: Brush, distance: Array, subject: Subject, colour: Rgb) -> None:
    cloth = brush.outline(distance, colour, LINE / 2)
    pattern = texture_share(brush, subject.texture)
    if pattern is not None:
        brush.paint(cloth * pattern, SECOND_COLOURS[subject.clothes_pattern])
    if subject.clothes == "coat":
        seam = brush.cover(np.abs(brush.x) - LINE / 3)
        brush.paint(cloth * seam, darker(colour, 0.55))


def _skull(brush: Brush, shape: str) -> Array:
    x, y = brush.x, brush.y
    if shape in {"oval", "tall"}:
        return ellipse(x, y, 0.68, 0.9)
    if shape == "square":
        return box(x, y - 0.02, 0.74, 0.82, 0.4)
    if shape == "pointed":
        return ellipse(x * (1 + 0.28 * np.maximum(y, 0)), y, 0.78, 0.88)
    return ellipse(x, y, 0.8, 0.83)


def _hair_behind(brush: Brush, subject: Subject, colour: Rgb) -> None:
    if subject.hair in _SHORT_HAIRS:
        return
    x, y, side = brush.x, brush.y, np.abs(brush.x)
    if subject.hair == "long":
        hair = either(circle(x, y + 0.12, 0.92), box(x, y - 0.42, 0.92, 0.62, 0.3))
    elif subject.hair == "bobbed":
        hair = either(circle(x, y + 0.12, 0.93), box(x, y - 0.12, 0.95, 0.5, 0.24))
    elif subject.hair == "bunned":
        hair = either(both(circle(x, y + 0.12, 0.9), y - 0.2), circle(x, y + 0.9, 0.26))
    elif subject.hair == "pigtailed":
        hair = either(circle(x, y + 0.12, 0.9), ellipse(side - 0.98, y - 0.14, 0.26, 0.46))
    else:
        hair = either(circle(x, y + 0.26, 0.86), circle(side - 0.7, y + 0.3, 0.36))
        hair = either(hair, circle(side - 0.4, y + 0.74, 0.38))
    brush.outline(hair, colour)


def _paint_head(brush: Brush, subject: Subject, hair: Rgb) -> None:
    skin = SKINS[subject.skin]
    side = np.abs(brush.x)
    ears = circle(side - 0.78, brush.y - 0.06, 0.16)
    if subject.hair not in {"long", "bobbed"}:
        brush.outline(ears, skin)
    skull = _skull(brush, subject.shape)
    head = brush.outline(skull, skin)
    brush.paint(brush.cover(ellipse(side - 0.46, brush.y - 0.32, 0.17, 0.11)) * head * 0.45, _BLUSH)
    if subject.extra == "beard":
        brush.fill(both(skull - 0.04, 0.28 + 0.3 * side - brush.y), hair)
    _features(brush, subject, hair)
    _fringe(brush, subject, skull, hair)
    _wear(brush, subject, hair)


def _features(brush: Brush, subject: Subject, hair: Rgb) -> None:
    x, y, side = brush.x, brush.y, np.abs(brush.x)
    width, height = {"round": (0.15, 0.17), "wide": (0.19, 0.14), "narrow": (0.17, 0.09)}[subject.eyes]
    brush.dot(ellipse(side - 0.31, y - 0.02, width + 0.025, height + 0.025), _INK, height)
    brush.dot(ellipse(side - 0.31, y - 0.02, width, height), _WHITE, height)
    brush.dot(circle(side - 0.29, y - 0.03, min(0.1, height)), _INK, 0.08)
    brush.dot(circle(side - 0.26, y + 0.015, 0.03), _WHITE, 0.03)
    brow = both(np.abs(y + 0.27 - 0.5 * (side - 0.31) * (side - 0.31)) - 0.035, np.abs(side - 0.31) - 0.17)
    brush.dot(brow, darker(hair, 0.35), 0.04)
    brush.dot(ellipse(x, y - 0.2, 0.07, 0.06), darker(SKINS[subject.skin], 0.22), 0.06)
    smile = both(np.abs(y - 0.5 + 1.1 * x * x) - 0.04, side - 0.26)
    brush.dot(smile, _LIPS if subject.extra != "beard" else mix(_LIPS, _WHITE, 0.5), 0.04)


def _fringe(brush: Brush, subject: Subject, skull: Array, colour: Rgb) -> None:
    x, y, side = brush.x, brush.y, np.abs(brush.x)
    if subject.hair in _SHORT_HAIRS:
        brush.outline(_short_hair(brush, subject.hair, skull), colour)
        return
    if subject.hair == "curly":
        wave = np.abs(x * 1.8 - np.floor(x * 1.8) - 0.5)
        below = y + 0.34 + 0.5 * wave * wave
    elif subject.hair == "bobbed":
        below = y + 0.36 - 0.06 * side
    else:
        below = y + 0.6 - 0.7 * side * side
    brush.fill(both(skull - 0.06, below), colour)


def _short_hair(brush: Brush, hair: str, skull: Array) -> Array:
    x, y, side = brush.x, brush.y, np.abs(brush.x)
    if hair == "spiky":
        spike = 1 - 2 * np.abs(x * 2.6 - np.floor(x * 2.6) - 0.5)
        height = spike * np.minimum(np.maximum(-0.9 * y - 0.2, 0), 0.15) * np.minimum(1.9 - 1.9 * side, 1)
        return both(skull - 0.08 - height, (y + 0.36 + 0.22 * spike) * 0.7)
    if hair == "parted":
        parting = np.abs(x - 0.34)
        return both(skull - 0.11, (y + 0.66 - 0.42 * np.minimum(parting, 0.9)) * 0.9)
    return both(skull - 0.1, y + 0.52 - 0.55 * side * side)


def _wear(brush: Brush, subject: Subject, hair: Rgb) -> None:
    x, y, side = brush.x, brush.y, np.abs(brush.x)
    if subject.extra == "glasses":
        rims = np.abs(box(side - 0.31, y - 0.02, 0.25, 0.22, 0.14)) - 0.035
        bridge = box(x, y, 0.07, 0.03)
        brush.dot(either(rims, bridge), _INK, 0.04)
    elif subject.extra == "moustache":
        brush.dot(both(ellipse(side - 0.15, y - 0.36 - 0.25 * side, 0.2, 0.09), y - 0.6), hair, 0.08)
    elif subject.extra == "earrings":
        brush.dot(circle(side - 0.84, y - 0.32, 0.11), _GOLD, 0.11)
    elif subject.extra == "freckles":
        spots = either(circle(side - 0.4, y - 0.26, 0.045), circle(side - 0.54, y - 0.34, 0.045))
        brush.dot(spots, darker(SKINS[subject.skin], 0.45), 0.045)
