"""The detector of NexusScore: how often it looks, what suppression means, and which files it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from refeval.clips import Frame
from refeval.errors import BadInput, CorruptFile, MissingPrerequisite
from refeval.metrics.networks.yolo_world import YoloWorld
from refeval.metrics.networks.yolo_world_boxes import OVERLAP, Detections, letterbox, suppress
from refeval.metrics.networks.yolo_world_detector import Detector, load_detector, load_network, tiny_detector

_CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def detector() -> Detector:
    return tiny_detector()


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """Blocks of random colours; more than go through the network at once."""
    random = np.random.default_rng(3)
    blocks = random.integers(0, 256, (11, 6, 8, 3), dtype=np.uint8)
    return list(blocks.repeat(12, axis=1).repeat(12, axis=2))


def test_every_frame_passes_the_backbone_once_whatever_the_number_of_prompts(
    detector: Detector, frames: list[Frame]
) -> None:
    seen: list[int] = []

    def count(_module: Any, inputs: tuple[Tensor], _output: Any) -> None:
        seen.append(len(inputs[0]))

    prompts = detector.embed_prompts([Image.fromarray(frame) for frame in frames[:3]])
    hook = detector.network.backbone["image_model"].register_forward_hook(count)
    try:
        found = detector.detect(frames, prompts)
    finally:
        hook.remove()
    assert sum(seen) == len(frames)
    assert len(seen) < len(frames)
    assert [len(row) for row in found] == [3] * len(frames)


def test_batches_and_other_prompts_change_nothing(detector: Detector, frames: list[Frame]) -> None:
    prompts = detector.embed_prompts([Image.fromarray(frame) for frame in frames[:2]])
    together = detector.detect(frames, prompts)
    alone = detector.detect(frames[9:10], prompts[1:])[0][0]
    assert len(alone.scores_n) > 0
    # Batches of another size take other paths through the convolutions: 1e-6 was seen.
    torch.testing.assert_close(together[9][1].boxes_n4, alone.boxes_n4, atol=1e-3, rtol=0)
    torch.testing.assert_close(together[9][1].scores_n, alone.scores_n, atol=1e-4, rtol=0)


def test_boxes_lie_inside_the_frame_best_first(detector: Detector, frames: list[Frame]) -> None:
    for (found,) in detector.detect(frames, detector.embed_prompts([Image.fromarray(frames[0])])):
        assert found.scores_n.tolist() == sorted(found.scores_n.tolist(), reverse=True)
        assert bool((found.scores_n > 0.5).all())
        height, width = frames[0].shape[:2]
        assert bool((found.boxes_n4 >= 0).all())
        assert bool((found.boxes_n4 <= torch.tensor([width, height, width, height])).all())


def test_prompts_have_length_1_and_differ_with_the_image(detector: Detector, frames: list[Frame]) -> None:
    prompts = detector.embed_prompts([Image.fromarray(frame) for frame in frames[:2]])
    assert prompts.norm(dim=1).tolist() == pytest.approx([1, 1])
    assert not torch.equal(prompts[0], prompts[1])


@given(st.integers(1, 900), st.integers(1, 900))
def test_letterbox_fills_the_longer_side_and_centres(width: int, height: int) -> None:
    boxed = letterbox(np.zeros((height, width, 3), np.uint8), 64)
    assert boxed.pixels.shape == (64, 64, 3)
    black = (boxed.pixels == 0).all(axis=-1)
    rows, columns = np.flatnonzero(black.any(axis=1)), np.flatnonzero(black.any(axis=0))
    assert max(len(rows), len(columns)) >= 63
    assert [columns[0], rows[0]] == list(boxed.offset)
    assert black.sum() == len(rows) * len(columns)


_corner = st.floats(0, 50, width=32)
_box = st.tuples(_corner, _corner, st.floats(0, 30, width=32), st.floats(0, 30, width=32), st.integers(0, 1))


@given(st.lists(_box, max_size=12))
def test_suppression_keeps_what_no_better_box_of_the_same_prompt_covers(boxes: list[tuple[float, ...]]) -> None:
    corners = [(x, y, x + w, y + h) for x, y, w, h, _ in boxes]
    found = Detections(
        boxes_n4=torch.tensor(corners, dtype=torch.float64).reshape(-1, 4),
        scores_n=torch.linspace(1, 0.5, len(boxes)),
        labels_n=torch.tensor([box[4] for box in boxes], dtype=torch.int64),
    )
    kept: list[int] = []
    for i, box in enumerate(corners):
        better = [j for j in kept if boxes[j][4] == boxes[i][4]]
        if not any(_covered(corners[j], box) for j in better):
            kept.append(i)
    assert suppress(found, OVERLAP).tolist() == kept


def _covered(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - width * height
    return union > 0 and width * height / union > OVERLAP


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(YoloWorld().state_dict())


def test_the_published_file_is_loaded_strictly_and_its_text_tower_is_left_out(
    tmp_path: Path, state: dict[str, Tensor]
) -> None:
    unused = {
        "backbone.text_model.model.logit_scale": torch.ones(()),
        "image_prompt_encoder.image_encoder.x": torch.ones(2),
    }
    torch.save({"state_dict": {**state, **unused}, "meta": {"epoch": 1}}, tmp_path / "yolo.pth")
    loaded = load_network(tmp_path / "yolo.pth").state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())
    torch.manual_seed(1)
    clip = CLIPVisionModelWithProjection(CLIPVisionConfig()).state_dict()
    extra = {"text_model.x": torch.ones(1), "vision_model.embeddings.position_ids": torch.arange(50)}
    torch.save({**clip, **extra}, tmp_path / "clip.bin")
    detector = load_detector(tmp_path / "yolo.pth", tmp_path / "clip.bin", _CPU)
    assert detector.embed_prompts([Image.new("RGB", (300, 200), "red")]).shape == (1, 512)


def test_other_weights_are_one_clear_error(tmp_path: Path, state: dict[str, Tensor]) -> None:
    missing = "bbox_head.head_module.cls_contrasts.1.logit_scale"
    for name, wrong in (
        ("missing", {key: value for key, value in state.items() if key != missing}),
        ("left over", {**state, "bbox_head.more": torch.ones(1)}),
        ("wrong shape", {**state, "backbone.image_model.stem.bn.bias": torch.ones(65)}),
    ):
        torch.save({"state_dict": wrong}, tmp_path / "yolo.pth")
        with pytest.raises(BadInput, match="not the weights of YOLO-World-v2-L") as caught:
            load_network(tmp_path / "yolo.pth")
        assert name in str(caught.value)
        assert "refeval fetch" in str(caught.value)


def test_a_file_that_is_absent_or_broken_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingPrerequisite):
        load_network(tmp_path / "yolo.pth")
    (tmp_path / "yolo.pth").write_bytes(b"broken")
    with pytest.raises(CorruptFile):
        load_network(tmp_path / "yolo.pth")
