"""NexusScore from references and a clip to a record: directions, what is computed how often, and the tiny model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from refeval.cases import Case, Category, Reference, reference_kind
from refeval.clips import Clip, Frame, Linspace
from refeval.errors import BadInput, MissingPrerequisite, UnusableClip
from refeval.metrics.base import Score
from refeval.metrics.gme import GmeScore
from refeval.metrics.networks.yolo_world_boxes import Detections
from refeval.metrics.nexus import NexusScore, score_case
from refeval.metrics.nexus_boxes import FoundBox, Sight, best_sights, official_value, scored_subjects, strict_value
from refeval.place import Place
from tests.metrics.nexus_colours import COLOURS, ColourEmbedder, ColourFinder

_LOOKED_AT = list(range(8))


def _case(root: Path, *labels: str, case_id: str = "multiobject_1") -> Case:
    """References of one colour each, named by their label."""
    references = []
    for i, label in enumerate(labels):
        path = f"thing/{i}.png"
        (root / "thing").mkdir(exist_ok=True)
        Image.new("RGB", (20, 10), COLOURS.get(label, (9, 9, 9))).save(root / path)
        references.append(Reference(path=path, label=label, kind=reference_kind(path, label), root=root))
    category = Category(case_id.split("_")[0])
    return Case(id=case_id, category=category, prompt="x", references=tuple(references))


def _clip(shown: Sequence[Sequence[str]]) -> Clip:
    """One frame per entry, with a square of each colour on grey; the squares of a colour are equal in all frames."""
    frames = np.full((len(shown), 48, 64, 3), 100, np.uint8)
    for frame, names in zip(frames, shown, strict=True):
        for name in names:
            left = 16 * list(COLOURS).index(name)
            frame[4:16, left : left + 12] = COLOURS[name]
    return Clip.from_frames(frames, 8)


def _score(case: Case, shown: Sequence[Sequence[str]], *, confidence: float = 0.9) -> Score:
    return score_case(case, _clip(shown), range(len(shown)), ColourFinder(confidence), ColourEmbedder())


def test_showing_a_subject_longer_lowers_the_official_value_and_raises_the_strict_one(tmp_path: Path) -> None:
    case = _case(tmp_path, "red")
    scores = [_score(case, [["red"]] * n + [[]] * (8 - n)) for n in range(9)]
    assert [score.value for score in scores] == pytest.approx([0, *(1 / n for n in range(1, 9))])
    assert [score.strict_value for score in scores] == pytest.approx([n / 8 for n in range(9)])
    assert [score.details["left_out_officially"] for score in scores] == [True] + [False] * 8


def test_strict_is_the_mean_over_subjects(tmp_path: Path) -> None:
    case = _case(tmp_path, "red", "green")
    score = _score(case, [["red", "green"]] * 2 + [["red"]] * 6)
    assert score.strict_value == pytest.approx((1 + 2 / 8) / 2)
    assert score.value == pytest.approx(1 / 8)
    assert score.details["first_release_value"] == pytest.approx(1 / 10)
    assert [subject["frames_found"] for subject in score.details["subjects"]] == [8, 2]


def test_details_name_the_best_crops_and_are_json(tmp_path: Path) -> None:
    score = _score(_case(tmp_path, "red", "blue"), [[], ["red"], ["red"], []])
    red, blue = json.loads(json.dumps(score.details))["subjects"]
    assert red["label"] == "red"
    assert red["reference"] == "thing/0.png"
    assert red["mean_similarity"] == pytest.approx(1)
    assert [(crop["frame"], crop["box"]) for crop in red["best_crops"]] == [(1, [0, 4, 12, 16]), (2, [0, 4, 12, 16])]
    assert (blue["frames_found"], blue["mean_similarity"], blue["best_crops"]) == (0, None, [])


def test_a_box_between_the_two_confidences_divides_and_does_not_count(tmp_path: Path) -> None:
    score = _score(_case(tmp_path, "red"), [["red"]] * 4, confidence=0.55)
    assert (score.value, score.strict_value, score.details["frames_with_a_box"]) == (0, 0, 4)
    assert not score.details["left_out_officially"]


def test_references_labels_and_equal_crops_are_embedded_once(tmp_path: Path) -> None:
    case = _case(tmp_path, "red", "red", "blue")
    finder, embedder = ColourFinder(), ColourEmbedder()
    score_case(case, _clip([["red", "blue"]] * 8), _LOOKED_AT, finder, embedder)
    assert (finder.prompts, finder.frames) == (3, 8)
    assert embedder.texts == ["red", "blue"]
    # Two distinct references (the red ones are equal) and one crop of each colour.
    assert embedder.images == 4


def test_a_frame_that_is_looked_at_twice_is_searched_once_and_counts_twice(tmp_path: Path) -> None:
    finder = ColourFinder()
    looked_at = Linspace(8).indices(4)
    score = score_case(_case(tmp_path, "red"), _clip([["red"], [], [], []]), looked_at, finder, ColourEmbedder())
    assert finder.frames == 4
    assert score.frames_used == 8
    (subject,) = score.details["subjects"]
    assert subject["frames_found"] == looked_at.count(0) > 1
    assert [crop["frame"] for crop in subject["best_crops"]] == [0]


def test_people_are_skipped_in_face_cases_and_called_human_in_human_cases(tmp_path: Path) -> None:
    metric = NexusScore(tiny=True)
    face = _case(tmp_path, "Man", "red", case_id="faceobj_1")
    assert [path.name for path in metric.inputs(face)] == ["1.png"]
    human = _case(tmp_path, "Man", "red", case_id="humanobj_1")
    assert [path.name for path in metric.inputs(human)] == ["0.png", "1.png"]
    embedder = ColourEmbedder()
    score_case(human, _clip([["red"]] * 2), range(2), ColourFinder(), embedder)
    assert embedder.texts == ["human", "red"]
    with pytest.raises(UnusableClip, match="no reference that NexusScore looks for"):
        _score(_case(tmp_path, "Man", case_id="singleface_1"), [[]])


def test_a_missing_or_broken_reference_is_named(tmp_path: Path) -> None:
    case = _case(tmp_path, "red", "blue")
    (tmp_path / "thing/1.png").write_bytes(b"no image")
    with pytest.raises(BadInput, match="not a readable image"):
        _score(case, [["red"]])
    (tmp_path / "thing/1.png").unlink()
    with pytest.raises(MissingPrerequisite, match="reference 2 of 2 is missing"):
        _score(case, [["red"]])


_similarity = st.floats(-1, 1, width=32).filter(lambda x: x != 0)
_frames = st.lists(st.lists(_similarity, max_size=3), min_size=1, max_size=6)


def _sights(similarities: Sequence[Sequence[float]], text: float = 0.5) -> list[list[Sight | None]]:
    boxes = [
        FoundBox(frame=frame, subject=0, corners=(0, 0, 4, 4), confidence=0.9)
        for frame, values in enumerate(similarities)
        for _ in values
    ]
    image_n = torch.tensor([value for values in similarities for value in values])
    return best_sights(boxes, torch.full((len(boxes),), text), image_n, subjects=1, frames=len(similarities))


@given(_frames, st.data())
def test_one_more_box_never_lowers_the_strict_value(frames: list[list[float]], data: st.DataObject) -> None:
    before = strict_value(_sights(frames))
    index = data.draw(st.integers(0, len(frames) - 1))
    more = [*frames[:index], [*frames[index], data.draw(_similarity)], *frames[index + 1 :]]
    assert 0 <= before <= strict_value(_sights(more)) <= 1


@given(_frames)
def test_strict_is_share_times_mean_and_does_not_depend_on_order(frames: list[list[float]]) -> None:
    (row,) = _sights(frames)
    found = [sight.similarity for sight in row if sight]
    expected = len(found) / len(frames) * (sum(found) / len(found)) if found else 0
    assert strict_value([row]) == pytest.approx(expected)
    assert strict_value(_sights(frames[::-1])) == pytest.approx(expected)


@given(_frames)
def test_what_the_label_does_not_fit_is_not_found(frames: list[list[float]]) -> None:
    assert strict_value(_sights(frames, text=0.2)) == 0


@pytest.mark.parametrize("confidence", [0.9, 0.55])
def test_a_crop_without_pixels_leaves_the_case_out_officially_and_is_not_found_strictly(
    confidence: float, tmp_path: Path
) -> None:
    # Both sides of the first box round to the same pixel.
    class Thin(ColourFinder):
        def detect(self, frames: Sequence[Frame], prompts_pd: Tensor) -> list[list[Detections]]:
            found = super().detect(frames, prompts_pd)
            first = found[0][0]
            thin, score = torch.tensor([[3.0, 4.0, 3.3, 16.0]]), torch.tensor([confidence])
            found[0][0] = Detections(boxes_n4=thin, scores_n=score, labels_n=first.labels_n)
            return found

    score = score_case(_case(tmp_path, "red"), _clip([["red"]] * 4), range(4), Thin(), ColourEmbedder())
    assert (score.value, score.details["left_out_officially"]) == (0, True)
    assert score.strict_value == pytest.approx(3 / 4)


def test_the_label_decides_and_the_reference_is_averaged(tmp_path: Path) -> None:
    case = _case(tmp_path, "Man", case_id="singlehuman_1")
    Image.new("RGB", (20, 10), COLOURS["red"]).save(tmp_path / "thing/0.png")
    # Red is 45 degrees from the yellow that stands for ``human``, and none from the reference.
    score = _score(case, [["red"]] * 2)
    assert (score.value, score.strict_value) == (pytest.approx(1 / 2), pytest.approx(1))


def test_two_references_of_one_file_are_told_apart_by_their_labels(tmp_path: Path) -> None:
    case = _case(tmp_path, "Man", "red", case_id="faceobj_1")
    man, red = case.references
    twice = replace(case, references=(replace(man, path=red.path), red))
    assert [(subject.position, subject.label) for subject in scored_subjects(twice)] == [(2, "red")]


class _HalfEmbedder(ColourEmbedder):
    """Random float16 embeddings of four numbers, by the size of an image or the text."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        return torch.stack([self.embedding(text) for text in texts])

    def embed_images(self, images: Sequence[Image.Image]) -> Tensor:
        return torch.stack([self.embedding(str(image.size)) for image in images])

    def embedding(self, seen: str) -> Tensor:
        numbers = np.random.default_rng([self.seed, *seen.encode()]).uniform(0.5, 1, 4)
        return torch.nn.functional.normalize(torch.from_numpy(numbers).half(), dim=0)


def test_similarities_are_computed_in_the_precision_of_the_embedder(tmp_path: Path) -> None:
    case, clip = _case(tmp_path, "red"), _clip([["red"]])
    told_apart = 0
    for seed in range(20):
        embedder = _HalfEmbedder(seed)
        reference, crop = embedder.embedding("(20, 10)"), embedder.embedding("(12, 12)")
        expected = (crop * reference).sum()
        score = score_case(case, clip, [0], ColourFinder(), embedder)
        assert score.value == expected.item()
        told_apart += expected.item() != (crop.float() * reference.float()).sum().half().item()
    assert told_apart > 0, "products in float32 would give other numbers"


def test_corners_are_rounded_halves_to_even() -> None:
    box = FoundBox(frame=0, subject=0, corners=(0.5, 1.5, 2.4, 3.6), confidence=0.9)
    assert box.pixels == (0, 2, 2, 4)


def test_without_any_box_there_is_no_official_value() -> None:
    assert official_value([], torch.empty(0), torch.empty(0)) is None


def test_the_tiny_model_scores_a_clip_with_the_tiny_gme(tmp_path: Path) -> None:
    metric, gme = NexusScore(tiny=True), GmeScore(tiny=True)
    metric.prepare()
    gme.prepare()
    assert metric._networks is not None
    assert metric._networks[1] is gme._gme
    case, clip = _case(tmp_path, "red", "blue"), _clip([["red", "blue"], ["red"], [], ["blue"]])
    score = metric.score(case, clip)
    assert score.frames_used == 32
    assert score.details["frames_with_a_box"] > 0
    assert 0 <= score.strict_value <= 1
    assert metric.score(case, clip) == score


def test_missing_weights_are_an_error_with_the_command_that_gets_them(tmp_path: Path) -> None:
    metric = NexusScore()
    metric.place = Place(weights=tmp_path, device="cpu")
    for ask in (metric.weights, metric.prepare):
        with pytest.raises(MissingPrerequisite, match=r"weights of .* are missing") as caught:
            ask()
        assert "refeval fetch" in str(caught.value)


def test_settings_tell_random_weights_apart() -> None:
    assert NexusScore().settings() != NexusScore(tiny=True).settings()
    assert NexusScore(tiny=True).weights() == {}


def test_listing_the_metric_does_not_import_torch() -> None:
    code = "import sys, refeval.metrics.nexus as n; n.NexusScore().settings(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
