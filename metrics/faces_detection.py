"""SCRFD, the face detector of the insightface packs, run by onnxruntime on many pictures at once.

Letters of shapes: N pictures, H and W pixels, K anchors of a level (two per cell), F faces.

Source: insightface 0.7.3 model_zoo/retinaface.py (what its router takes for ``det_10g.onnx``), prepared as
OpenS2V-Nexus eval/get_facesim.py at 210eb08 does. Differs: the other four networks of a pack, which
``FaceAnalysis`` runs on every face, are not run; nothing is ever downloaded; pictures go through in batches. The
published files take one picture only. A copy in memory has that limit lifted, and is believed only if it gives two
test pictures what it gives them one by one; where it does not, pictures run one by one, in threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from refeval.errors import BadInput, MissingPrerequisite
from refeval.metrics.faces import Face, Picture
from refeval.metrics.faces_onnx import INSTALL_CURE, import_onnxruntime, open_session

Array = NDArray[np.float32]
DETECTION_SIZE = 320
THRESHOLD = 0.5
OVERLAP = 0.4
_STRIDES = (8, 16, 32)
_ANCHORS = 2
_KINDS = {"score": 1, "box": 4, "landmarks": 10}
_BATCH = 32
_THREADS = 4
_SAME = 1e-3


class ScrfdDetector:
    """A detector with scores, boxes and landmarks at strides 8, 16 and 32.

    Args:
        file: ``det_10g.onnx`` of the pack buffalo_l, or a file of the same kind.
        device: ``cpu`` or ``cuda``.

    Attributes:
        batched: whether pictures go through together.

    Raises:
        MissingPrerequisite: onnxruntime is missing or works on another device.
        BadInput: another kind of network.
    """

    def __init__(self, file: Path, *, device: str = "cpu") -> None:
        self._single = open_session(file, device)
        if len(self._single.get_outputs()) != len(_STRIDES) * len(_KINDS):
            raise BadInput(f"{file}: not an SCRFD face detector with landmarks", cure="give det_10g.onnx of buffalo_l")
        self._many = open_session(_without_batch_limit(file), device)
        self._split = _find_split(self._single, self._many)
        self.batched = self._split is not None

    def detect(self, pictures: Sequence[Picture]) -> list[list[Face]]:
        """See :class:`refeval.metrics.faces.FaceDetector`; faces of a picture are in falling order of score."""
        found: list[list[Face]] = []
        for start in range(0, len(pictures), _BATCH):
            boxed = [_letterbox(picture) for picture in pictures[start : start + _BATCH]]
            levels = self._run(np.stack([pixels for pixels, _ in boxed]))
            found += [_decode(level, scale) for level, (_, scale) in zip(levels, boxed, strict=True)]
        return found

    def _run(self, pixels_nchw: Array) -> list[list[Array]]:
        """Per picture, the nine outputs of the network, each of shape (K, 1, 4 or 10)."""
        if self._split is not None:
            outputs = _outputs(self._many, pixels_nchw)
            return _per_picture([self._split(output, len(pixels_nchw)) for output in outputs])
        with ThreadPoolExecutor(_THREADS) as pool:
            return list(pool.map(lambda one: _rows(_outputs(self._single, one[None])), pixels_nchw))


def _outputs(session: Any, pixels_nchw: Array) -> list[Array]:
    found: list[Array] = session.run(None, {session.get_inputs()[0].name: pixels_nchw})
    return found


def _rows(outputs: list[Array]) -> list[Array]:
    return [output.reshape(-1, output.shape[-1]) for output in outputs]


def _per_picture(outputs: list[Array]) -> list[list[Array]]:
    return [list(of_one) for of_one in zip(*outputs, strict=True)]


def _letterbox(picture: Picture) -> tuple[Array, float]:
    """The picture scaled into the upper left corner of a black square, as float32 RGB (3, H, W), and the scale."""
    height, width = picture.shape[:2]
    if height > width:
        new = (int(DETECTION_SIZE / (height / width)), DETECTION_SIZE)
    else:
        new = (DETECTION_SIZE, int(DETECTION_SIZE * (height / width)))
    square = np.zeros((DETECTION_SIZE, DETECTION_SIZE, 3), np.uint8)
    square[: new[1], : new[0]] = cv2.resize(picture, new)
    pixels = (square[..., ::-1].astype(np.float32) - np.float32(127.5)) / np.float32(128)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)), new[1] / height


def _decode(outputs: list[Array], scale: float) -> list[Face]:
    """Faces of one picture from the nine outputs: scores of all levels, then boxes, then landmarks."""
    levels = len(_STRIDES)
    parts = []
    for i, stride in enumerate(_STRIDES):
        scores, boxes, landmarks = (outputs[i + kind * levels] for kind in range(len(_KINDS)))
        kept = np.flatnonzero(scores.max(axis=1) >= THRESHOLD)
        centres = _centres(stride)[kept]
        sides, points = boxes[kept] * np.float32(stride), landmarks[kept] * np.float32(stride)
        corners = np.hstack([centres - sides[:, :2], centres + sides[:, 2:]])
        parts.append(np.hstack([scores[kept], corners / scale, (points + np.tile(centres, 5)) / scale]))
    rows = np.vstack(parts).astype(np.float32, copy=False)
    rows = rows[np.argsort(-rows[:, 0], kind="stable")]
    kept_rows = rows[_suppress(rows[:, 1:5])]
    return [Face(box=row[1:5], landmarks=row[5:].reshape(5, 2), score=float(row[0])) for row in kept_rows]


def _centres(stride: int) -> Array:
    """Centre of every anchor of a level as (x, y), float32, shape (K, 2)."""
    cells = DETECTION_SIZE // stride
    down, across = np.mgrid[:cells, :cells].astype(np.float32) * stride
    return np.repeat(np.stack([across, down], axis=-1).reshape(-1, 2), _ANCHORS, axis=0)


def _suppress(boxes: Array) -> list[int]:
    """Indices of the boxes that no better one overlaps by more than the limit; better ones come first."""
    widths, heights = boxes[:, 2] - boxes[:, 0] + 1, boxes[:, 3] - boxes[:, 1] + 1
    areas = widths * heights
    kept: list[int] = []
    left = np.arange(len(boxes))
    while left.size:
        best, rest = left[0], left[1:]
        kept.append(int(best))
        low = np.maximum(boxes[best, :2], boxes[rest, :2])
        high = np.minimum(boxes[best, 2:], boxes[rest, 2:])
        shared = np.prod(np.maximum(np.float32(0), high - low + 1), axis=1)
        left = rest[shared / (areas[best] + areas[rest] - shared) <= OVERLAP]
    return kept


_Split = Callable[[Array, int], Array]


def _pictures_first(output: Array, pictures: int) -> Array:
    return output.reshape(pictures, -1, output.shape[-1])


def _cells_first(output: Array, pictures: int) -> Array:
    split = output.reshape(-1, pictures, _ANCHORS, output.shape[-1])
    return split.swapaxes(0, 1).reshape(pictures, -1, output.shape[-1])


def _find_split(single: Any, many: Any) -> _Split | None:
    """How the rows of several pictures lie in the outputs; None where the network cannot take several."""
    state = import_onnxruntime().capi.onnxruntime_pybind11_state
    shape = (2, 3, DETECTION_SIZE, DETECTION_SIZE)
    pictures = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    alone = [_rows(_outputs(single, picture[None])) for picture in pictures]
    try:
        together = _outputs(many, pictures)
    except (state.Fail, state.InvalidArgument, state.RuntimeException):
        return None
    if any(output.size != 2 * part.size for output, part in zip(together, alone[0], strict=True)):
        return None
    for split in (_pictures_first, _cells_first):
        found = _per_picture([split(output, 2) for output in together])
        if all(map(_same, found, alone)):
            return split
    return None


def _same(ours: list[Array], theirs: list[Array]) -> bool:
    return all(np.allclose(a, b, rtol=_SAME, atol=_SAME) for a, b in zip(ours, theirs, strict=True))


def _without_batch_limit(file: Path) -> bytes:
    """The network with a free first dimension of its input, and no word on the shapes of its outputs."""
    try:
        import onnx
    except ImportError as error:
        raise MissingPrerequisite(f"onnx cannot be imported: {error}", cure=INSTALL_CURE) from error
    model = onnx.load(str(file))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "pictures"
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    content: bytes = model.SerializeToString()
    return content
