"""Alignment, choice of faces and aggregation are those of the official script."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from refeval.cases import Domain, Suite
from refeval.catalogue import METRIC_BY_ID
from refeval.metrics.faces import Face, Picture, estimate_similarity, find_faces, largest, norm_crop
from refeval.metrics.faces_scoring import arc_mean, clamp, cosine, official_mean
from refeval.metrics.facesim import official_reference
from refeval.protocols import ProtocolName, applies
from refeval.suites import load_suite

_NORM_CROPS = range(7)
_PICTURES = ("direct_single", "two_faces_largest_wins", "tie_last_wins", "retry_padded", "retry_fails")
_CLIPS = (
    "all_good",
    "some_no_face",
    "no_faces",
    "negative_cur_skipped_negative_arc_counted_as_zero",
    "all_negative",
    "zero_vectors",
    "nan_embedding",
    "empty_video",
)


class _Scripted:
    """Gives the faces of a plan, one entry per call, and keeps what it was shown."""

    def __init__(self, plan: list[list[dict[str, Any]]]) -> None:
        self.plan = iter(plan)
        self.shown: list[Picture] = []

    def detect(self, pictures: Sequence[Picture]) -> list[list[Face]]:
        self.shown += pictures
        return [[_face(entry) for entry in next(self.plan)] for _ in pictures]


def _face(entry: Mapping[str, Any]) -> Face:
    return Face(box=np.array(entry["bbox"], np.float32), landmarks=np.array(entry["kps"], np.float32), score=1.0)


@pytest.mark.parametrize("index", _NORM_CROPS)
def test_parity_of_norm_crop(index: int, facesim_arrays: Mapping[str, NDArray[Any]]) -> None:
    assert cv2.__version__.startswith("4."), "OpenCV 5 has another warpAffine"
    picture, landmarks = facesim_arrays[f"nc/{index}/image"], facesim_arrays[f"nc/{index}/landmarks"]
    assert np.array_equal(estimate_similarity(landmarks), facesim_arrays[f"nc/{index}/M"])
    assert np.array_equal(norm_crop(picture, landmarks), facesim_arrays[f"nc/{index}/crop"])


def test_parity_where_all_landmarks_are_one_point(
    facesim_facts: dict[str, Any], facesim_arrays: Mapping[str, NDArray[Any]]
) -> None:
    golden, landmarks = facesim_facts["degenerate_landmarks"], np.full((5, 2), 40, np.float32)
    assert np.array_equal(estimate_similarity(landmarks), np.array(golden["M"]), equal_nan=True)
    assert int(norm_crop(facesim_arrays["nc/2/image"], landmarks).sum()) == golden["crop_sum"]


@pytest.mark.parametrize("name", _PICTURES)
def test_parity_of_the_face_of_a_picture(
    name: str, facesim_facts: dict[str, Any], facesim_arrays: Mapping[str, NDArray[Any]]
) -> None:
    index, golden = next((i, entry) for i, entry in enumerate(facesim_facts["process_image"]) if entry["name"] == name)
    detector = _Scripted(golden["plan"])
    picture = np.ascontiguousarray(facesim_arrays[f"pi/{index}/image_rgb"][..., ::-1])
    found = largest(find_faces(detector, [picture])[0])
    shown = [hashlib.sha256(np.ascontiguousarray(one).tobytes()).hexdigest() for one in detector.shown]
    assert [list(one.shape) for one in detector.shown] == golden["detector_call_shapes"]
    assert shown == golden["detector_call_sha256_bgr"]
    if golden["result_none"]:
        assert found is None
        return
    assert found is not None
    (entry,) = [e for e in golden["plan"][-1] if e["emb"] == golden["embedding"]]
    assert np.array_equal(found.face.landmarks, np.array(entry["kps"], np.float32))
    assert np.array_equal(found.crop(), facesim_arrays[f"pi/{index}/align_face_rgb"])


@pytest.mark.parametrize("name", _CLIPS)
def test_parity_of_the_aggregation(name: str, facesim_facts: dict[str, Any]) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    golden = next(entry for entry in facesim_facts["aggregation"] if entry["name"] == name)

    def similarities(part: int, reference: list[float]) -> list[float | None]:
        return [
            None if frame is None else clamp(cosine(np.array(reference, np.float32), np.array(frame[part], np.float32)))
            for frame in golden["frames"]
        ]

    assert official_mean(similarities(0, golden["ref_cur"]))[0] == float(golden["cur_score"])
    assert arc_mean(similarities(1, golden["ref_arc"])) == float(golden["arc_score"])


def test_parity_covers_the_whole_golden(facesim_facts: dict[str, Any]) -> None:
    assert len(facesim_facts["norm_crop"]) == len(_NORM_CROPS)
    assert {entry["name"] for entry in facesim_facts["process_image"]} == {*_PICTURES}
    assert {entry["name"] for entry in facesim_facts["aggregation"]} == {*_CLIPS}


@pytest.mark.parametrize("domain", list(Domain))
def test_every_published_case_names_its_person_by_path(domain: Domain, opens2v: Path) -> None:
    suite = _published(opens2v, domain)
    for case_id in applies(ProtocolName.STRICT, METRIC_BY_ID["facesim"].id, suite):
        reference = official_reference(suite[case_id])
        assert reference is not None
        assert {"man", "woman", "crop_man", "crop_woman"} & {*Path(reference.path).parts}


def _published(opens2v: Path, domain: Domain) -> Suite:
    file = opens2v / f"{domain.value.capitalize()}-Domain_Eval.json"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    return load_suite(str(file))
