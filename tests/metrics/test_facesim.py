"""FaceSim end to end with small parts, and what its values must and must not do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from refeval.applicability import strict_applies
from refeval.cases import Case, Category, Reference, ReferenceKind
from refeval.clips import Clip
from refeval.errors import BadInput, MissingPrerequisite, UnusableClip
from refeval.metrics.faces import Face, Picture, find_faces
from refeval.metrics.faces_models import SOURCES, FaceModels, find_files, load_models
from refeval.metrics.faces_scoring import clamp, confusions, match, official_mean, per_reference, strict_mean
from refeval.metrics.faces_sprites import SpriteFaceDetector
from refeval.metrics.facesim import FaceSim, official_reference
from refeval.place import Place
from refeval.sprites import SubjectKind, draw_clip, draw_reference, sample_subject
from refeval.sprites.suite import scene_for, write_suite
from refeval.suites import load_suite

_FRAMES = 32
_SIZE = 128


def _drawn(seed: int) -> NDArray[np.uint8]:
    subject = sample_subject(np.random.default_rng(seed), (SubjectKind.FACE,))
    return draw_reference(subject, _SIZE, _SIZE)


@pytest.fixture(scope="module")
def people() -> list[NDArray[np.uint8]]:
    """Three drawn faces, RGB."""
    return [_drawn(seed) for seed in (3, 4, 5)]


def _case(folder: Path, people: Sequence[NDArray[np.uint8]], *, id_: str = "singleface_1") -> Case:
    references = []
    for number, picture in enumerate(people):
        path = f"man/{number}.png"
        (folder / "man").mkdir(exist_ok=True)
        Image.fromarray(picture).save(folder / path)
        references.append(Reference(path=path, label="Man", kind=ReferenceKind.PERSON, root=folder))
    return Case(id=id_, category=Category(id_.split("_")[0]), prompt="A walk.", references=tuple(references))


def _clip(frames: Sequence[NDArray[np.uint8]]) -> Clip:
    return Clip.from_frames(np.stack(frames), 16)


@pytest.fixture(scope="module")
def metric() -> FaceSim:
    """The tiny metric, ready."""
    pytest.importorskip("torch", reason="torch is not installed")
    metric = FaceSim(tiny=True)
    metric.prepare()
    return metric


def test_the_same_face_in_every_frame_is_one(metric: FaceSim, people: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    score = metric.score(_case(tmp_path, people[:1]), _clip([people[0]] * _FRAMES))
    assert score.value == pytest.approx(1, abs=1e-6)
    assert score.strict_value == pytest.approx(1, abs=1e-6)
    assert score.frames_used == _FRAMES
    assert score.details["faces"] == [1] * _FRAMES
    assert score.details["reference"] == "man/0.png"
    assert score.details["identity_confusion"] is None
    assert "arc_score" not in score.details


def test_one_good_frame_is_officially_as_good_as_all_but_not_strictly(
    metric: FaceSim, people: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    # Defect D3: frames without a face leave the official mean.
    white = np.full_like(people[0], 255)
    score = metric.score(_case(tmp_path, people[:1]), _clip([people[0], *[white] * (_FRAMES - 1)]))
    assert score.value == pytest.approx(1, abs=1e-6)
    assert score.frames_used == 1
    assert score.strict_value == pytest.approx(1 / _FRAMES, abs=1e-6)


def test_of_several_faces_the_largest_counts_wherever_the_detector_names_it(
    people: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    pytest.importorskip("torch", reason="torch is not installed")

    class SmallestFirst(SpriteFaceDetector):
        def detect(self, pictures: Sequence[Picture]) -> list[list[Face]]:
            return [faces[::-1] for faces in super().detect(pictures)]

    metric = FaceSim(tiny=True)
    metric.prepare()
    assert metric._models is not None
    metric._models = FaceModels(detector=SmallestFirst(), network=metric._models.network, recognition=None)
    small = np.full_like(people[1], 255)
    small[: _SIZE // 2, : _SIZE // 2] = people[1][::2, ::2]
    for pictures in ([people[0], small], [small, people[0]]):
        score = metric.score(_case(tmp_path, people[:1]), _clip([np.concatenate(pictures, axis=1)] * 2))
        assert set(score.details["faces"]) == {2}
        assert score.value == pytest.approx(1, abs=1e-3)
    # In the reference too.
    crowd = np.concatenate([small, people[0]], axis=1)
    assert metric.score(_case(tmp_path, [crowd]), _clip([people[0]])).value == pytest.approx(1, abs=1e-3)


def test_a_clip_without_a_face_is_zero(metric: FaceSim, people: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    score = metric.score(_case(tmp_path, people[:1]), _clip([np.zeros_like(people[0])] * 3))
    assert (score.value, score.strict_value, score.frames_used) == (0.0, 0.0, 0)


def test_a_short_clip_repeats_frames(metric: FaceSim, people: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    white = np.full_like(people[0], 255)
    score = metric.score(_case(tmp_path, people[:1]), _clip([people[0], white]))
    # numpy's linspace gives the last frame only at the very end.
    assert score.details["faces"] == [1] * (_FRAMES - 1) + [0]
    assert score.strict_value == pytest.approx((_FRAMES - 1) / _FRAMES, abs=1e-6)


def test_several_people(metric: FaceSim, people: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    both = np.concatenate(people[:2], axis=1)
    alone = np.concatenate([people[0], np.full_like(people[0], 255)], axis=1)
    case = _case(tmp_path, people[:2], id_="multiface_1")
    together = metric.score(case, _clip([both] * 4))
    assert together.strict_value == pytest.approx(1, abs=1e-3)
    assert together.details["identity_confusion"] == 0.0
    assert [entry["path"] for entry in together.details["references"]] == ["man/0.png", "man/1.png"]
    missing = metric.score(case, _clip([alone] * 4))
    assert missing.strict_value == pytest.approx(0.5, abs=1e-3)
    assert missing.details["references"][1]["similarity"] == 0.0


def test_details_name_the_best_faces_of_each_person(
    metric: FaceSim, people: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    alone = np.concatenate([people[0], np.full_like(people[0], 255)], axis=1)
    both = np.concatenate(people[:2], axis=1)
    score = metric.score(_case(tmp_path, people[:2], id_="multiface_1"), _clip([alone, both, alone]))
    first, second = (entry["best_crops"] for entry in score.details["references"])
    assert [crop["frame"] for crop in first] == [0, 1, 2]
    assert [crop["frame"] for crop in second] == [1]
    # The first person stands on the left, the second on the right.
    (left, _, right, _), (other_left, _, other_right, _) = first[1]["box"], second[0]["box"]
    assert 0 <= left < right <= _SIZE <= other_left < other_right <= 2 * _SIZE
    assert second[0]["similarity"] == pytest.approx(1, abs=1e-3)


def test_two_faces_of_the_same_subject_are_confused(
    metric: FaceSim, people: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    twins = np.concatenate([people[0], people[0]], axis=1)
    score = metric.score(_case(tmp_path, people[:2], id_="multiface_1"), _clip([twins] * 4))
    assert score.details["identity_confusion"] == 0.5


def test_the_order_of_the_references_does_not_matter(
    metric: FaceSim, people: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    clip = _clip([np.concatenate([people[2], people[0]], axis=1)] * 2)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = metric.score(_case(tmp_path / "a", people, id_="multiface_1"), clip)
    other = metric.score(_case(tmp_path / "b", people[::-1], id_="multiface_1"), clip)
    assert one.strict_value == pytest.approx(other.strict_value, abs=1e-12)
    assert one.details["identity_confusion"] == other.details["identity_confusion"]


def test_a_second_reference_without_a_face_counts_zero(
    metric: FaceSim, people: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    case = _case(tmp_path, [people[0], np.full_like(people[0], 255)], id_="multiface_1")
    score = metric.score(case, _clip([people[0]] * 2))
    assert score.strict_value == pytest.approx(0.5, abs=1e-6)
    assert [entry["face"] for entry in score.details["references"]] == [True, False]
    assert score.details["identity_confusion"] is None


def test_what_cannot_be_scored_says_why(metric: FaceSim, people: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    clip = _clip([people[0]] * 2)
    with pytest.raises(UnusableClip, match=r"no face is found in the reference man/0\.png"):
        metric.score(_case(tmp_path, [np.full_like(people[0], 255)]), clip)
    with pytest.raises(UnusableClip, match="no reference of a person"):
        metric.score(Case(id="faceobj_1", category=Category.FACEOBJ, prompt="-", references=()), clip)
    case = _case(tmp_path, people[:1])
    (tmp_path / "man/0.png").write_bytes(b"no image")
    with pytest.raises(BadInput, match="not a readable image"):
        metric.score(case, clip)
    (tmp_path / "man/0.png").unlink()
    with pytest.raises(MissingPrerequisite, match="reference 1 of 1 is missing"):
        metric.inputs(case)


def test_a_reference_is_looked_at_once(people: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    metric = FaceSim(tiny=True)
    metric.prepare()
    shown: list[Picture] = []
    assert metric._models is not None
    network = metric._models.network

    class Counting(SpriteFaceDetector):
        def detect(self, pictures: Sequence[Picture]) -> list[list[Face]]:
            shown.extend(pictures)
            return super().detect(pictures)

    metric._models = FaceModels(detector=Counting(), network=network, recognition=None)
    for _ in range(3):
        metric.score(_case(tmp_path, people[:1]), _clip([people[0]]))
    assert len(shown) == 1 + 3


def test_the_official_reference_is_chosen_by_path() -> None:
    def case(*entries: tuple[str, str, ReferenceKind]) -> Case:
        references = tuple(Reference(path=path, label=label, kind=kind) for path, label, kind in entries)
        return Case(id="faceobj_1", category=Category.FACEOBJ, prompt="-", references=references)

    thing, person = ReferenceKind.OBJECT, ReferenceKind.PERSON
    by_label, by_path = ("people/1.jpg", "Man", person), ("Images/crop_woman/2.jpg", "Woman", person)
    chosen = official_reference(case(("thing/0.jpg", "dog", thing), by_label, by_path))
    assert chosen is not None and chosen.path == "Images/crop_woman/2.jpg"
    chosen = official_reference(case(("thing/0.jpg", "dog", thing), by_label))
    assert chosen is not None and chosen.path == "people/1.jpg"
    assert official_reference(case(("thing/0.jpg", "dog", thing))) is None


def test_settings_and_weights_say_what_looks() -> None:
    assert FaceSim(tiny=True).settings() != FaceSim().settings()
    assert FaceSim(tiny=True).weights() == {}
    # One or the other is installed, and either may move a landmark.
    assert {"onnxruntime", "onnxruntime-gpu"} <= set(FaceSim.libraries)


def test_missing_weights_name_the_cure(tmp_path: Path) -> None:
    metric = FaceSim()
    metric.place = Place(weights=tmp_path)
    for call in (metric.weights, metric.prepare):
        with pytest.raises(MissingPrerequisite, match="metric 'facesim'") as error:
            call()
        assert "glint360k_curricular_face_r101_backbone.bin" in str(error.value)
        assert error.value.cure == f"refeval fetch metrics --weights {tmp_path}"
    metric.place = Place()
    with pytest.raises(MissingPrerequisite) as error:
        metric.weights()
    assert str(error.value.cure).startswith("refeval fetch metrics --weights DIR")


def test_weights_are_found_wherever_they_lie_in_the_repository(tmp_path: Path) -> None:
    folder = tmp_path / SOURCES[0].repository
    names = (
        "face_extractor/glint360k_curricular_face_r101_backbone.bin",
        "face_extractor/models/buffalo_l/det_10g.onnx",
    )
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"not whole")
    metric = FaceSim()
    metric.place = Place(weights=tmp_path, device="cpu")
    assert sorted(metric.weights()) == sorted(f"{SOURCES[0].repository}/{name}" for name in names)
    recognition = folder / "face_extractor/models/buffalo_l/w600k_r50.onnx"
    recognition.write_bytes(b"-")
    assert len(metric.weights()) == 3
    assert find_files(metric.store).recognition == recognition


def test_listing_the_metric_imports_no_torch() -> None:
    code = "import sys, refeval.metrics.facesim; sys.exit('torch' in sys.modules or 'onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


_TABLES = st.tuples(st.integers(1, 3), st.integers(0, 5)).flatmap(
    lambda size: st.lists(
        st.lists(st.floats(-1, 1), min_size=size[1], max_size=size[1]), min_size=size[0], max_size=size[0]
    )
)


@given(table=_TABLES, data=st.data())
def test_strict_never_rises_when_a_face_is_removed(table: list[list[float]], data: st.DataObject) -> None:
    whole = sum(match(table).similarities)
    if table[0]:
        face = data.draw(st.integers(0, len(table[0]) - 1))
        without = [[*row[:face], *row[face + 1 :]] for row in table]
        assert sum(match(without).similarities) <= whole + 1e-12


@given(table=_TABLES, data=st.data())
def test_permuting_references_or_faces_changes_nothing(table: list[list[float]], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(table))))
    faces = data.draw(st.permutations(range(len(table[0]))))
    mixed = [[table[row][face] for face in faces] for row in order]
    assert strict_mean([match(mixed)]) == pytest.approx(strict_mean([match(table)]), abs=1e-12)


@given(table=_TABLES)
def test_the_assignment_is_the_best_of_all(table: list[list[float]]) -> None:
    from itertools import permutations

    found = match(table)
    used = [face for face in found.faces if face is not None]
    assert len(set(used)) == len(used)
    columns = [*range(len(table[0])), *[None] * len(table)]
    best = max(
        sum(clamp(table[row][face]) for row, face in enumerate(choice) if face is not None)
        for choice in permutations(columns, len(table))
    )
    assert sum(found.similarities) == pytest.approx(best, abs=1e-12)
    assert 0 <= strict_mean([found]) <= 1


def test_confusion_counts_faces_closer_to_another_subject() -> None:
    table = [[0.9, 0.8], [0.3, 0.2]]
    found = match(table)
    assert found.similarities == (0.8, 0.3) or found.similarities == (0.9, 0.2)
    assert confusions(table, found) == (1, 2)
    assert confusions([[0.9], []], match([[0.9], []])) == (0, 1)
    assert confusions([[], []], match([[], []])) == (0, 0)


def test_means_of_frames() -> None:
    frames = [match([[0.5], [0.1]]), match([[], []])]
    assert per_reference(frames) == [0.25, 0.0]
    assert strict_mean(frames) == 0.125
    assert official_mean([None, 0.0, 0.5]) == (0.5, 1)
    assert official_mean([]) == (0.0, 0)


def test_a_padded_face_is_cut_from_the_picture_without_padding(people: list[NDArray[np.uint8]]) -> None:
    class OnlyPadded(SpriteFaceDetector):
        def detect(self, pictures: Sequence[Picture]) -> list[list[Face]]:
            return super().detect(pictures) if pictures[0].shape[0] > _SIZE else [[] for _ in pictures]

    picture = np.ascontiguousarray(people[0][..., ::-1])
    ((direct,),) = find_faces(SpriteFaceDetector(), [picture])
    ((padded,),) = find_faces(OnlyPadded(), [picture])
    assert padded.searched.shape == (_SIZE * 3 // 2, _SIZE * 3 // 2, 3)
    # Landmarks of the second look are float64: the transform has other last bits.
    assert np.abs(padded.crop().astype(int) - direct.crop()).mean() < 0.01


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    from refeval.metrics.faces_models import FaceFiles

    (tmp_path / "det_10g.onnx").write_bytes(b"no network")
    files = FaceFiles(network=tmp_path / "network.bin", detector=tmp_path / "det_10g.onnx", recognition=None)
    with pytest.raises(BadInput, match="not an ONNX network"):
        load_models(files, "cpu")


def test_the_suite_of_drawn_people_tells_the_right_clip_from_another(metric: FaceSim, tmp_path: Path) -> None:
    write_suite(tmp_path)
    suite = load_suite(str(tmp_path / "Sprites_Eval.json"))
    cases = [case for case in suite.cases if strict_applies(metric.id, case)]
    clips = [_clip(list(draw_clip(scene_for(case.id), 4, 112, 192))) for case in cases]
    right = [metric.score(case, clip) for case, clip in zip(cases, clips, strict=True)]
    wrong = [metric.score(case, clip) for case, clip in zip(cases, [*clips[1:], clips[0]], strict=True)]
    assert np.mean([score.strict_value for score in right]) > np.mean([score.strict_value for score in wrong]) + 0.1
    confusion = [score.details["identity_confusion"] for score in right]
    assert sum(share is not None for share in confusion) == sum(case.id.startswith("multi") for case in cases)
