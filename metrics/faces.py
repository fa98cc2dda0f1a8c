"""Faces in pictures: which are found, which one counts, and how it is cut out upright.

Letters of shapes: H and W pixels.

Source: OpenS2V-Nexus eval/get_facesim.py at 210eb08, insightface 0.7.3 utils/face_align.py and the similarity
transform of scikit-image 0.25 that it calls. Differs: all pictures of a clip are searched together; the estimate of
the transform is written out with the number types that numpy 1.26 gave it, so that it has the same bits under
numpy 2; faces other than the largest are kept for ``strict``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
CROP_SIZE = 224
_TEMPLATE_SIZE = 112
# Eyes, nose and corners of the mouth in an upright face of 112 x 112 pixels: the template that ArcFace learned with.
_TEMPLATE: Final = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
_PADDING = 0.25
_PADDING_GREY = 128


@dataclass(frozen=True, kw_only=True)
class Face:
    """What a detector says of one face.

    Attributes:
        box: float32, shape (4,): left, top, right, bottom in pixels.
        landmarks: float32 or float64, shape (5, 2): eyes, nose, corners of the mouth as (x, y) in pixels.
        score: confidence, 0..1.
    """

    box: NDArray[np.float32]
    landmarks: NDArray[np.floating[Any]]
    score: float

    @property
    def area(self) -> float:
        """Of the box, in pixels."""
        return float((self.box[2] - self.box[0]) * (self.box[3] - self.box[1]))


class FaceDetector(Protocol):
    """Finds faces in pictures of any sizes."""

    def detect(self, pictures: Sequence[Picture]) -> list[list[Face]]:
        """The faces of every picture.

        Args:
            pictures: uint8 BGR, shape (H, W, 3) each.
        """


@dataclass(frozen=True, kw_only=True)
class FoundFace:
    """A face and the picture in which it was found.

    Attributes:
        face: in the coordinates of ``searched``.
        searched: the picture, or the padded one where nothing was found without padding; uint8 BGR.
        picture: the picture without padding; uint8 BGR.
        offset: (left, top) of ``picture`` in ``searched``; None where they are the same.
    """

    face: Face
    searched: Picture
    picture: Picture
    offset: tuple[int, int] | None = None

    @property
    def pixels(self) -> tuple[int, int, int, int]:
        """The box in ``picture``: left, top, right, bottom in whole pixels, nothing of it outside."""
        height, width = self.picture.shape[:2]
        shift = np.array([*(self.offset or (0, 0))] * 2)
        left, top, right, bottom = np.rint(self.face.box - shift).clip(0, [width, height, width, height]).tolist()
        return int(left), int(top), int(right), int(bottom)

    def crop(self) -> Picture:
        """The upright face, uint8 RGB, shape (224, 224, 3): always from the picture without padding."""
        landmarks = self.face.landmarks
        if self.offset is not None:
            landmarks = landmarks.astype(np.float64) - self.offset
        return np.ascontiguousarray(norm_crop(self.picture, landmarks)[..., ::-1])


def find_faces(detector: FaceDetector, pictures: Sequence[Picture]) -> list[list[FoundFace]]:
    """The faces of every picture; where there is none, those that padding brings to light.

    Args:
        detector: sees each picture once, and those without a face once more with a grey border of a quarter of
            the height and width on each side.
        pictures: uint8 BGR, shape (H, W, 3) each.
    """
    pictures = list(pictures)
    found = [
        [FoundFace(face=face, searched=picture, picture=picture) for face in faces]
        for picture, faces in zip(pictures, detector.detect(pictures), strict=True)
    ]
    empty = [index for index, faces in enumerate(found) if not faces]
    if empty:
        padded = [pad(pictures[index]) for index in empty]
        for index, picture, faces in zip(empty, padded, detector.detect(padded), strict=True):
            offset = _border(pictures[index])
            found[index] = [
                FoundFace(face=face, searched=picture, picture=pictures[index], offset=offset) for face in faces
            ]
    return found


def largest(faces: Sequence[FoundFace]) -> FoundFace | None:
    """The face with the largest box, the last one of equals; None where there is no face."""
    return max(reversed(faces), key=lambda found: found.face.area, default=None)


def pad(picture: Picture) -> Picture:
    """The picture in a grey border of a quarter of its height and width on each side."""
    left, top = _border(picture)
    return np.pad(picture, ((top, top), (left, left), (0, 0)), constant_values=_PADDING_GREY)


def _border(picture: Picture) -> tuple[int, int]:
    height, width = picture.shape[:2]
    return int(width * _PADDING), int(height * _PADDING)


def network_input(crop: Picture, size: int) -> Picture:
    """A crop in the size that a network takes, uint8, shape (size, size, 3)."""
    return cv2.resize(crop, (size, size)).astype(np.uint8, copy=False)


def norm_crop(picture: Picture, landmarks: NDArray[np.floating[Any]], size: int = CROP_SIZE) -> Picture:
    """The face turned upright, eyes and mouth at the places of the template, black outside of the picture.

    Args:
        picture: uint8, shape (H, W, 3).
        landmarks: as in :class:`Face`.
        size: of the result, a multiple of 112.

    Returns:
        uint8, shape (size, size, 3), channels as they came.
    """
    matrix = estimate_similarity(landmarks, size)
    return cv2.warpAffine(picture, matrix, (size, size), borderValue=(0.0,)).astype(np.uint8, copy=False)


def estimate_similarity(landmarks: NDArray[np.floating[Any]], size: int = CROP_SIZE) -> NDArray[np.float64]:
    """Turn, scale and shift that bring landmarks closest to the template, by Umeyama's least squares.

    Args:
        landmarks: as in :class:`Face`; float32 and float64 give different last bits.
        size: of the upright face, a multiple of 112.

    Returns:
        float64, shape (2, 3); NaN where all landmarks are one point.
    """
    target = _TEMPLATE * (size / _TEMPLATE_SIZE)
    mean, target_mean = landmarks.mean(axis=0), target.mean(axis=0)
    centred = landmarks - mean
    covariance = (target - target_mean).T @ centred / len(landmarks)
    if np.linalg.matrix_rank(covariance) == 0:
        return np.full((2, 3), np.nan)
    left, singular, right = np.linalg.svd(covariance)
    signs = np.array([1.0, -1.0 if np.linalg.det(left) * np.linalg.det(right) < 0 else 1.0])
    turn = left @ np.diag(signs) @ right
    # Means, covariance and variance keep the type of the landmarks; from here on numpy 1.26 went on in float64.
    scale = 1.0 / float(centred.var(axis=0).sum()) * (singular @ signs)
    shift = target_mean - scale * (turn @ mean.T)
    return np.column_stack([turn * scale, shift])
