"""ArcFace, the recognition network of an insightface pack: the official files hold its score beside FaceSim's.

Source: insightface 0.7.3 model_zoo/arcface_onnx.py. Differs: faces go through together where the file allows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refeval.metrics.faces import FoundFace, norm_crop
from refeval.metrics.faces_onnx import open_session

INPUT_SIZE = 112
_BATCH = 32


class ArcFace:
    """The network of ``w600k_r50.onnx``.

    Args:
        file: of a network whose pixels are scaled to -1..1, as those of the packs buffalo_l and antelopev2.
        device: ``cpu`` or ``cuda``.

    Raises:
        MissingPrerequisite: onnxruntime is missing or works on another device.
        BadInput: not an ONNX network.
    """

    def __init__(self, file: Path, *, device: str = "cpu") -> None:
        self._session = open_session(file, device)
        self._input = self._session.get_inputs()[0]
        self._step = 1 if self._input.shape[0] == 1 else _BATCH

    def embed(self, faces: Sequence[FoundFace]) -> list[NDArray[np.float32]]:
        """Embeddings of any length, float32, shape (D,) each; the crop is taken where the face was found."""
        found: list[NDArray[np.float32]] = []
        for start in range(0, len(faces), self._step):
            crops = [
                norm_crop(one.searched, one.face.landmarks, INPUT_SIZE) for one in faces[start : start + self._step]
            ]
            pixels_nhwc = (np.stack(crops)[..., ::-1].astype(np.float32) - np.float32(127.5)) / np.float32(127.5)
            pixels_nchw = np.ascontiguousarray(pixels_nhwc.transpose(0, 3, 1, 2))
            found += list(self._session.run(None, {self._input.name: pixels_nchw})[0])
        return found
