"""A stand-in for a face detector that finds the drawn faces of the sprites world, and nothing in photographs.

For tests and tiny runs, which have neither weights nor onnxruntime. A face is a patch of one of the four skin
colours, about as high as wide, with eyes and a mouth as holes in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from refeval.metrics.faces import Face, Picture
from refeval.sprites.palette import SKINS

_TOLERANCE = 32
_SMALLEST = 5
# Glasses part a face in two: its lower half is wide.
_ASPECT = (0.55, 2.8)
_FILLED = 0.4
# Eyes and mouth: how much of the patch is not skin.
_HOLES = (0.03, 0.6)
# Eyes, nose, corners of the mouth within the box of the skin, as shares of its width and height.
_LANDMARKS: Final = np.array([[0.31, 0.39], [0.69, 0.39], [0.5, 0.53], [0.37, 0.71], [0.63, 0.71]], np.float32)


class SpriteFaceDetector:
    """Finds drawn faces by the colour of their skin; see :class:`refeval.metrics.faces.FaceDetector`."""

    def detect(self, pictures: Sequence[Picture]) -> list[list[Face]]:
        """The drawn faces of every picture, uint8 BGR, shape (H, W, 3) each; larger ones first."""
        return [_outermost(sorted(_faces(picture), key=lambda face: -face.area)) for picture in pictures]


def _outermost(faces: list[Face]) -> list[Face]:
    """Without those that lie in a larger one: cheeks have another colour."""
    kept: list[Face] = []
    for face in faces:
        centre = (face.box[:2] + face.box[2:]) / 2
        if not any((other.box[:2] <= centre).all() and (centre <= other.box[2:]).all() for other in kept):
            kept.append(face)
    return kept


def _faces(picture: Picture) -> list[Face]:
    skins_bgr = [np.array([blue, green, red], np.int16) for red, green, blue in SKINS.values()]
    distances = np.stack([np.abs(picture.astype(np.int16) - skin).max(axis=2) for skin in skins_bgr])
    nearest, near = distances.argmin(axis=0), distances.min(axis=0) <= _TOLERANCE
    found = []
    for index in range(len(skins_bgr)):
        mask = ((nearest == index) & near).astype(np.uint8)
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        found += [face for outline in outlines if (face := _face(mask, np.asarray(outline, np.int32))) is not None]
    return found


def _face(mask: Picture, outline: NDArray[np.int32]) -> Face | None:
    left, top, width, height = cv2.boundingRect(outline)
    if min(width, height) < _SMALLEST or not _ASPECT[0] <= width / height <= _ASPECT[1]:
        return None
    patch = np.zeros((height, width), np.uint8)
    cv2.drawContours(patch, [outline], -1, (1,), cv2.FILLED, offset=(-left, -top))
    area = int(patch.sum())
    skin = int((patch * mask[top : top + height, left : left + width]).sum())
    if area < _FILLED * width * height or not _HOLES[0] <= 1 - skin / area <= _HOLES[1]:
        return None
    corner, size = np.array([left, top], np.float32), np.array([width, height], np.float32)
    return Face(box=np.hstack([corner, corner + size]), landmarks=corner + _LANDMARKS * size, score=1.0)
