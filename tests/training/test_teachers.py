"""The teachers: which tokens and which layer their features are, where they lie, and which weights are taken."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from refeval.errors import BadInput, MissingPrerequisite
from refeval.training.teacher_catalogue import TEACHERS, FamilyName
from refeval.training.teachers import load_teacher, tiny_teacher
from tests.training.small_teachers import DINO, SIGLIP, WIDTH, normalised, pictures, write_dinov3, write_siglip2


def test_a_letterboxed_reference_has_a_feature_per_token_of_the_transformer() -> None:
    found = tiny_teacher().features(pictures(1, 480, 832))
    assert found.shape == (1, 1560, 32)
    assert found.dtype == torch.float32


def test_features_are_the_tokens_of_patches_of_dinov3(tmp_path: Path) -> None:
    model = write_dinov3(tmp_path)
    with torch.no_grad():
        whole = model(normalised(DINO, pictures())).last_hidden_state
    assert whole.shape == (2, 1 + 4 + 15, WIDTH)
    found = load_teacher(DINO, tmp_path).features(pictures())
    torch.testing.assert_close(found, whole[:, 5:], rtol=1e-5, atol=1e-5)


def test_features_are_the_tokens_of_the_vision_model_of_siglip2(tmp_path: Path) -> None:
    model = write_siglip2(tmp_path).vision_model
    with torch.no_grad():
        whole = model(normalised(SIGLIP, pictures()), interpolate_pos_encoding=True).last_hidden_state
    found = load_teacher(SIGLIP, tmp_path).features(pictures())
    assert found.shape == (2, 15, WIDTH)
    torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_features_are_those_of_the_wanted_layer(layer: int, tmp_path: Path) -> None:
    model = write_dinov3(tmp_path)
    seen: list[Tensor] = []
    model.model.layer[layer - 1].register_forward_hook(lambda *call: seen.append(call[2]))
    with torch.no_grad():
        model(normalised(DINO, pictures()))
        normed = model.norm(seen[0])
    spec = replace(DINO, layer=layer)
    plain = load_teacher(replace(spec, final_norm=False), tmp_path).features(pictures())
    torch.testing.assert_close(plain, seen[0][:, 5:], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(load_teacher(spec, tmp_path).features(pictures()), normed[:, 5:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["dinov3", "siglip2"])
def test_the_final_norm_is_all_that_its_option_changes(family: FamilyName, tmp_path: Path) -> None:
    spec, model, norm = (
        (DINO, write_dinov3(tmp_path), "norm")
        if family == "dinov3"
        else (SIGLIP, write_siglip2(tmp_path).vision_model, "post_layernorm")
    )
    plain = load_teacher(replace(spec, final_norm=False), tmp_path).features(pictures())
    with torch.no_grad():
        expected = getattr(model, norm)(plain)
    assert not torch.allclose(plain, expected, atol=0.1)
    torch.testing.assert_close(load_teacher(spec, tmp_path).features(pictures()), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("family", "patch"), [("dinov3", 16), ("siglip2", 16), ("siglip2", 14), ("dinov3", 8)])
def test_features_lie_row_by_row_on_the_grid_of_the_reference(family: FamilyName, patch: int) -> None:
    teacher = tiny_teacher(family=family, patch=patch, final_norm=False)
    base = torch.full((1, 3, 48, 80), 90, dtype=torch.uint8)
    before = teacher.features(base)
    assert before.shape == (1, 15, 32)
    for row, column in product(range(3), range(5)):
        changed = base.clone()
        changed[:, :, 16 * row + 4 : 16 * row + 12, 16 * column + 4 : 16 * column + 12] = 255
        moved = (teacher.features(changed) - before).norm(dim=-1).view(3, 5)
        assert moved.argmax() == row * 5 + column


@pytest.mark.parametrize("patch", [8, 14])
def test_other_patches_see_the_picture_resized_to_them(patch: int, tmp_path: Path) -> None:
    """As PIL resizes, which averages where a picture becomes smaller."""
    model = write_siglip2(tmp_path, patch).vision_model
    planes = [Image.fromarray(plane.float().numpy()) for plane in pictures(1)[0]]
    resized = [plane.resize((5 * patch, 3 * patch), Image.Resampling.BILINEAR) for plane in planes]
    values = torch.stack([torch.from_numpy(np.array(plane)) for plane in resized])[None]
    with torch.no_grad():
        expected = model(normalised(SIGLIP, values), interpolate_pos_encoding=True).last_hidden_state
    found = load_teacher(replace(SIGLIP, patch=patch), tmp_path).features(pictures(1))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_channels_are_red_green_blue_and_normalised_as_published() -> None:
    """The statistics of the published processors: those of ImageNet, and one half; Qwen's are read from its own."""
    for name in ("dinov3-b", "dinov3-l", "dinov3-h+"):
        assert TEACHERS[name].mean == (0.485, 0.456, 0.406)
        assert TEACHERS[name].std == (0.229, 0.224, 0.225)
    assert TEACHERS["siglip2-so"].mean == TEACHERS["siglip2-so"].std == (0.5, 0.5, 0.5)
    assert [spec.width for spec in TEACHERS.values()] == [768, 1024, 1280, 1152, 1280]
    assert [spec.layer for spec in TEACHERS.values()] == [12, 24, 32, 27, 32]


def test_features_have_no_gradient_and_serve_as_targets() -> None:
    teacher = tiny_teacher()
    with torch.inference_mode():
        targets = teacher.features(pictures())
    assert not targets.requires_grad
    assert not targets.is_inference()
    student = torch.zeros_like(targets, requires_grad=True)
    (student * targets).sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(student.grad, targets)  # type: ignore[arg-type]


def test_a_tiny_teacher_is_the_same_in_every_process() -> None:
    before = torch.random.get_rng_state()
    teacher = tiny_teacher(seed=4)
    assert torch.equal(torch.random.get_rng_state(), before)
    found = teacher.features(pictures())
    assert torch.equal(teacher.features(pictures()), found)
    assert not torch.equal(tiny_teacher(seed=5).features(pictures()), found)
    code = (
        "import hashlib; from refeval.training.teachers import tiny_teacher;"
        "from tests.training.small_teachers import pictures;"
        "print(hashlib.sha256(tiny_teacher(seed=4).features(pictures()).numpy().tobytes()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert other.stdout.strip() == hashlib.sha256(found.numpy().tobytes()).hexdigest()


def test_the_weights_may_be_bfloat16(tmp_path: Path) -> None:
    write_dinov3(tmp_path)
    exact = load_teacher(DINO, tmp_path).features(pictures())
    rounded = load_teacher(DINO, tmp_path, dtype=torch.bfloat16).features(pictures())
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded, rounded.bfloat16().float())
    assert torch.cosine_similarity(rounded, exact, dim=-1).min() > 0.99


@pytest.mark.parametrize(
    ("changes", "row"),
    [
        ({"width": 64}, ("width", "32 instead of 64")),
        ({"depth": 4, "layer": 4}, ("blocks", "3 instead of 4")),
        ({"patch": 14}, ("patch", "16 instead of 14")),
        ({"special_tokens": 1}, ("special tokens", "5 instead of 1")),
    ],
)
def test_weights_of_a_relative_are_refused(changes: dict[str, int], row: tuple[str, str], tmp_path: Path) -> None:
    write_dinov3(tmp_path)
    with pytest.raises(BadInput, match="not the weights of dinov3-b") as caught:
        load_teacher(replace(DINO, **changes), tmp_path)  # type: ignore[arg-type]
    assert caught.value.details == (row,)
    assert caught.value.cure == "refeval fetch model dinov3-b --weights DIR"


def test_weights_of_another_family_are_refused(tmp_path: Path) -> None:
    write_siglip2(tmp_path)
    with pytest.raises(BadInput, match="not the weights of dinov3-b"):
        load_teacher(DINO, tmp_path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingPrerequisite, match="no weights"):
        load_teacher(DINO, tmp_path / "nowhere")
    write_dinov3(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(MissingPrerequisite, match=r"no config\.json") as caught:
        load_teacher(DINO, tmp_path)
    assert caught.value.cure == "refeval fetch model dinov3-b --weights DIR"


def test_what_is_no_picture_is_refused() -> None:
    teacher = tiny_teacher()
    for wrong in (pictures().float(), pictures()[0], pictures().permute(0, 2, 3, 1), pictures()[:0]):
        with pytest.raises(ValueError, match="uint8"):
            teacher.features(wrong)
    for height, width in [(40, 80), (48, 72), (0, 16)]:
        with pytest.raises(ValueError, match="multiples of 16"):
            teacher.features(pictures(1, height, width))
    with pytest.raises(ValueError, match="layers 1 to 3"):
        replace(DINO, layer=0)
