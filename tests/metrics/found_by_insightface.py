"""A child process: what insightface finds in pictures, for test_facesim_detection.py.

Usage: found_by_insightface FOLDER. In FOLDER: pictures.npz (uint8 BGR), the detectors ``*.onnx`` and, among them,
the recognition network w600k_r50.onnx. Left there: results.npz with, per detector and picture, rows of box, score and
landmarks (``CLASS/DETECTOR/OVERLAP/PICTURE``), and the embeddings of RetinaFace's faces in ``cells.onnx``,
with landmarks as float64 (``ArcFace/PICTURE``).
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
from insightface.model_zoo import SCRFD, ArcFaceONNX, RetinaFace
from numpy.typing import NDArray

from refeval.metrics.faces_detection import DETECTION_SIZE, OVERLAP, THRESHOLD

_ARCFACE = "w600k_r50.onnx"
# At which nothing is suppressed.
_WHOLLY = 1.0


def main(folder: Path) -> None:
    with np.load(folder / "pictures.npz") as stored:
        pictures = [stored[name] for name in stored]
    results: dict[str, NDArray[np.float32]] = {}
    for file in sorted(folder.glob("*.onnx")):
        if file.name != _ARCFACE:
            for kind in (RetinaFace, SCRFD):
                results |= _detect(_start(kind, file), f"{kind.__name__}/{file.stem}", pictures)
    arcface = _start(ArcFaceONNX, folder / _ARCFACE)
    for index, picture in enumerate(pictures):
        landmarks = results[f"RetinaFace/cells/{OVERLAP}/{index}"][:, 5:].reshape(-1, 5, 2).astype(np.float64)
        embeddings = [arcface.get(picture, SimpleNamespace(kps=of_one)) for of_one in landmarks]
        results[f"ArcFace/{index}"] = np.asarray(embeddings, np.float32)
    np.savez(folder / "results.npz", **results)


def _start(kind: Any, file: Path) -> Any:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return kind(model_file=str(file), session=session)


def _detect(detector: Any, name: str, pictures: list[NDArray[np.uint8]]) -> dict[str, NDArray[np.float32]]:
    found = {}
    for overlap in (OVERLAP, _WHOLLY):
        size = (DETECTION_SIZE, DETECTION_SIZE)
        detector.prepare(-1, input_size=size, det_thresh=THRESHOLD, nms_thresh=overlap)
        for index, picture in enumerate(pictures):
            rows, landmarks = detector.detect(picture)
            found[f"{name}/{overlap}/{index}"] = np.hstack([rows, landmarks.reshape(-1, 10)])
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
