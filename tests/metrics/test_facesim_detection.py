"""The detector: the numbers of insightface, in batches, on the device that was asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from refeval.cases import Case, Category, Reference, ReferenceKind
from refeval.clips import Clip
from refeval.errors import BadInput, MissingPrerequisite
from refeval.metrics.faces import Face, FoundFace, norm_crop
from refeval.metrics.faces_detection import DETECTION_SIZE, OVERLAP, ScrfdDetector
from refeval.metrics.faces_models import SOURCES, FaceFiles, load_models
from refeval.metrics.facesim import FaceSim
from refeval.metrics.networks.arcface import INPUT_SIZE, ArcFace
from refeval.place import Place
from tests.metrics.parity_libraries import run_beside

onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip install 'refeval[face]')")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (pip install 'refeval[face]')")

_ANCHORS = 2
_LAYOUTS = ("cells", "pictures", "mixed")
_SIZES = ((96, 160), (240, 120), (64, 64), (480, 832), (97, 61))
_LANDMARKS = np.array([[20, 20], [40, 21], [31, 33], [22, 44], [39, 45]], np.float32)


def _save(path: Path, nodes: list[Any], weights: dict[str, Any], shape: list[Any], outputs: dict[str, int]) -> Path:
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("input", kind, shape)],
        [helper.make_tensor_value_info(name, kind, ["rows", width]) for name, width in outputs.items()],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def _scrfd(path: Path, layout: str) -> Path:
    """A network with the inputs and outputs of det_10g.onnx and random weights; rows in one of three layouts."""
    node, rng = onnx.helper.make_node, np.random.default_rng(7)
    weights: dict[str, Any] = {}
    nodes, outputs = [], {}
    source = "input"
    for kind, width in (("score", 1), ("box", 4), ("points", 10)):
        for stride in (8, 16, 32):
            outputs[f"{kind}{stride}"] = width
    if layout == "mixed":
        nodes += [node("ReduceMean", ["input"], ["mean"], axes=[0]), node("Sub", ["input", "mean"], ["centred"])]
        nodes += [node("Mul", ["mean", "half"], ["halved"]), node("Add", ["centred", "halved"], ["start"])]
        weights["half"] = np.array(0.5, np.float32)
        source = "start"
    for stride in (8, 16, 32):
        size = 8 if stride == 8 else 2
        nodes.append(node("AveragePool", [source], [f"pool{stride}"], kernel_shape=[size, size], strides=[size, size]))
        source = f"pool{stride}"
        for kind, width in (("score", 1), ("box", 4), ("points", 10)):
            name = f"{kind}{stride}"
            weights[f"w_{name}"] = rng.normal(0, 3, (_ANCHORS * width, 3, 1, 1)).astype(np.float32)
            if kind == "score":
                # Black, as beside the picture, is no face: equal scores have no order.
                weights[f"w_{name}"] = np.abs(weights[f"w_{name}"])
            weights[f"b_{name}"] = np.full(_ANCHORS * width, -2.0 if kind == "score" else 2.0, np.float32)
            weights[f"s_{name}"] = np.array([-1, width], np.int64)
            order = [0, 2, 3, 1] if layout == "pictures" else [2, 3, 0, 1]
            last = {"score": "Sigmoid", "box": "Softplus", "points": "Identity"}[kind]
            nodes += [
                node("Conv", [source, f"w_{name}", f"b_{name}"], [f"c_{name}"], kernel_shape=[1, 1]),
                node("Transpose", [f"c_{name}"], [f"t_{name}"], perm=order),
                node("Reshape", [f"t_{name}", f"s_{name}"], [f"r_{name}"]),
                node(last, [f"r_{name}"], [name]),
            ]
    return _save(path, nodes, weights, [1, 3, "height", "width"], outputs)


def _arcface(path: Path, pictures: str | int) -> Path:
    node, rng = onnx.helper.make_node, np.random.default_rng(8)
    weights: dict[str, Any] = {"w": rng.normal(0, 1, (3 * 49, 16)).astype(np.float32)}
    nodes = [
        node("AveragePool", ["input"], ["pooled"], kernel_shape=[16, 16], strides=[16, 16]),
        node("Flatten", ["pooled"], ["flat"], axis=1),
        node("MatMul", ["flat", "w"], ["embedding"]),
    ]
    return _save(path, nodes, weights, [pictures, 3, INPUT_SIZE, INPUT_SIZE], {"embedding": 16})


def _pictures() -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(3)
    pictures = []
    for height, width in _SIZES:
        # Blocks, so that something is left after the pooling; noise, so that no two scores are equal.
        blocks = np.kron(rng.integers(0, 256, (height // 24 + 1, width // 24 + 1, 3)), np.ones((24, 24, 1)))
        picture = blocks[:height, :width] + rng.normal(0, 12, (height, width, 3))
        pictures.append(picture.clip(0, 255).astype(np.uint8))
    return pictures


def _same(ours: list[Face], theirs: list[Face]) -> bool:
    return len(ours) == len(theirs) and all(
        np.array_equal(one.box, other.box)
        and np.array_equal(one.landmarks, other.landmarks)
        and one.score == other.score
        for one, other in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize(("layout", "batched"), [("cells", True), ("pictures", True), ("mixed", False)])
def test_many_pictures_give_what_each_gives_alone(layout: str, batched: bool, tmp_path: Path) -> None:
    detector = ScrfdDetector(_scrfd(tmp_path / "det_10g.onnx", layout))
    assert detector.batched is batched
    together = detector.detect(_pictures())
    assert sum(map(len, together)) > 10
    for picture, faces in zip(_pictures(), together, strict=True):
        (alone,) = detector.detect([picture])
        assert len(alone) == len(faces)
        for one, other in zip(alone, faces, strict=True):
            assert one.box == pytest.approx(other.box, abs=1e-2)
            assert one.landmarks == pytest.approx(other.landmarks, abs=1e-2)


@dataclass(frozen=True, kw_only=True)
class _Theirs:
    folder: Path
    results: dict[str, NDArray[np.float32]]

    def faces(self, name: str, layout: str, index: int, overlap: float = OVERLAP) -> list[Face]:
        rows = self.results[f"{name}/{layout}/{overlap}/{index}"]
        return [Face(box=row[:4], landmarks=row[5:].reshape(5, 2), score=float(row[4])) for row in rows]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> _Theirs:
    folder = tmp_path_factory.mktemp("insightface")
    for layout in _LAYOUTS:
        _scrfd(folder / f"{layout}.onnx", layout)
    _arcface(folder / "w600k_r50.onnx", "pictures")
    np.savez(folder / "pictures.npz", *_pictures_and_a_black_one())
    run_beside("insightface", "found_by_insightface", folder)
    with np.load(folder / "results.npz") as results:
        return _Theirs(folder=folder, results=dict(results))


def _pictures_and_a_black_one() -> list[NDArray[np.uint8]]:
    return [*_pictures(), np.zeros((90, 70, 3), np.uint8)]


@pytest.mark.parametrize("name", ["RetinaFace", "SCRFD"])
@pytest.mark.parametrize("layout", _LAYOUTS)
def test_parity_with_insightface(name: str, layout: str, theirs: _Theirs) -> None:
    pictures = _pictures_and_a_black_one()
    ours = ScrfdDetector(theirs.folder / f"{layout}.onnx").detect(pictures)
    wanted = [theirs.faces(name, layout, index) for index in range(len(pictures))]
    candidates = [theirs.faces(name, layout, index, overlap=1.0) for index in range(len(pictures))]
    # Some are below the threshold, others are suppressed, and a black picture has none.
    assert 50 < sum(map(len, wanted)) < 0.7 * sum(map(len, candidates))
    assert max(map(len, candidates)) < _ANCHORS * sum((DETECTION_SIZE // stride) ** 2 for stride in (8, 16, 32)) / 4
    assert not wanted[-1]
    assert all(map(_same, ours, wanted))


def test_parity_of_arcface_with_insightface(theirs: _Theirs) -> None:
    network, compared = ArcFace(theirs.folder / "w600k_r50.onnx"), 0
    for index, picture in enumerate(_pictures_and_a_black_one()):
        # float64: from float32, numpy 2 computes another last bit of the crop's place than the official environment,
        # whose bits test_facesim_parity.py holds.
        faces = [
            replace(face, landmarks=face.landmarks.astype(np.float64))
            for face in theirs.faces("RetinaFace", "cells", index)
        ]
        ours = network.embed([FoundFace(face=face, searched=picture, picture=picture) for face in faces])
        embeddings = theirs.results[f"ArcFace/{index}"]
        assert len(ours) == len(embeddings)
        # Measured 6e-6 on values up to 30: OpenCV multiplies by 1/127.5. Another crop gave 4e-5 and more.
        assert all(np.abs(one - other).max() < 2e-5 for one, other in zip(ours, embeddings, strict=True))
        compared += len(ours)
    assert compared > 500


def _found(picture: NDArray[np.uint8]) -> FoundFace:
    face = Face(box=np.array([10, 10, 60, 60], np.float32), landmarks=_LANDMARKS, score=1.0)
    return FoundFace(face=face, searched=picture, picture=picture)


@pytest.mark.parametrize("pictures", ["pictures", 1])
def test_arcface_embeds_any_number_of_faces(pictures: str | int, tmp_path: Path) -> None:
    network = ArcFace(_arcface(tmp_path / "w600k_r50.onnx", pictures))
    first, second = _pictures()[:2]
    embeddings = network.embed([_found(first), _found(second), _found(first)])
    assert [embedding.shape for embedding in embeddings] == [(16,)] * 3
    assert np.array_equal(embeddings[0], embeddings[2])
    assert not np.array_equal(embeddings[0], embeddings[1])
    assert network.embed([]) == []
    assert not np.array_equal(norm_crop(first, _LANDMARKS, INPUT_SIZE), norm_crop(second, _LANDMARKS, INPUT_SIZE))


def test_the_metric_with_the_files_of_a_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    from refeval.metrics.networks import curricularface

    # The full network takes a second for each of the many faces that random weights see.
    monkeypatch.setattr(
        curricularface, "load_curricularface", lambda *_args, **_options: curricularface.random_curricularface()
    )
    folder = tmp_path / SOURCES[0].repository
    pack = folder / "face_extractor/models/buffalo_l"
    pack.mkdir(parents=True)
    (folder / "glint360k_curricular_face_r101_backbone.bin").write_bytes(b"-")
    _scrfd(pack / "det_10g.onnx", "cells")
    _arcface(pack / "w600k_r50.onnx", "pictures")
    picture = _pictures()[0]
    (tmp_path / "man").mkdir()
    Image.fromarray(np.ascontiguousarray(picture[..., ::-1])).save(tmp_path / "man/1.png")
    reference = Reference(path="man/1.png", label="Man", kind=ReferenceKind.PERSON, root=tmp_path)
    case = Case(id="singleface_1", category=Category.SINGLEFACE, prompt="-", references=(reference,))
    metric = FaceSim()
    metric.place = Place(weights=tmp_path, device="cpu")
    metric.prepare()
    assert len(metric.weights()) == 3
    score = metric.score(case, Clip.from_frames(np.stack([picture[..., ::-1]] * 2), 8))
    assert score.value == pytest.approx(1, abs=1e-5)
    assert score.strict_value == pytest.approx(1, abs=1e-5)
    assert score.details["arc_score"] == pytest.approx(1, abs=1e-5)


def test_the_cpu_is_never_taken_in_silence(tmp_path: Path) -> None:
    if "CUDAExecutionProvider" in runtime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(MissingPrerequisite, match="does not offer CUDAExecutionProvider") as caught:
        ScrfdDetector(_scrfd(tmp_path / "det_10g.onnx", "cells"), device="cuda")
    assert "onnxruntime-gpu" in str(caught.value.cure)
    assert "CPUExecutionProvider" in str(caught.value)


def test_a_provider_that_fails_to_start_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # onnxruntime offers CUDA, finds no driver, and goes on with the CPU.
    there = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    start = runtime.InferenceSession
    monkeypatch.setattr(runtime, "get_available_providers", lambda: there)
    monkeypatch.setattr(runtime, "preload_dlls", lambda: None)

    def fall_back(file: Any, sess_options: Any, providers: Any) -> Any:
        return start(file, sess_options=sess_options, providers=providers[1:])

    monkeypatch.setattr(runtime, "InferenceSession", fall_back)
    with pytest.raises(MissingPrerequisite, match="does not offer CUDAExecutionProvider") as caught:
        ScrfdDetector(_scrfd(tmp_path / "det_10g.onnx", "cells"), device="cuda")
    assert ("active", "CPUExecutionProvider") in caught.value.details


def test_the_cpu_is_named_and_nothing_falls_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    start = runtime.InferenceSession

    def record(file: Any, sess_options: Any, providers: Any) -> Any:
        asked.append(providers)
        return start(file, sess_options=sess_options, providers=providers)

    monkeypatch.setattr(runtime, "InferenceSession", record)
    ScrfdDetector(_scrfd(tmp_path / "det_10g.onnx", "cells"), device="cpu")
    assert asked == [["CPUExecutionProvider"]] * 2


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    with pytest.raises(BadInput, match="not an ONNX network"):
        ScrfdDetector(tmp_path / "broken.onnx")
    with pytest.raises(BadInput, match="not an SCRFD face detector"):
        ScrfdDetector(_arcface(tmp_path / "w600k_r50.onnx", 1))


def test_an_unknown_device_is_refused_before_a_file_is_opened(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    files = FaceFiles(network=tmp_path / "network.bin", detector=tmp_path / "det_10g.onnx", recognition=None)
    with pytest.raises(BadInput, match="unknown device 'tpu'"):
        load_models(files, "tpu")
