"""The vision tower of Qwen2.5-VL: its patches put back in order, its layers, and the part of the files it is in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import Qwen2VLImageProcessorPil

from refeval.errors import BadInput
from refeval.stored_weights import write_safetensors
from refeval.training.teacher_catalogue import TEACHERS
from refeval.training.teacher_families import qwen_patches
from refeval.training.teachers import load_teacher, tiny_teacher
from tests.training.small_teachers import QWEN, WIDTH, normalised, pictures, write_qwen

# 10 x 12 patches: 2 x 2 windows of 8 x 8 patches, three of them cut off by the edge.
ROWS, COLUMNS = 10, 12


def by_window() -> list[tuple[int, int]]:
    """Row and column of every patch in the order in which the blocks see them, counted by hand."""
    return [
        (row, column)
        for top in range(0, ROWS, 8)
        for left in range(0, COLUMNS, 8)
        for square_row in range(top, min(top + 8, ROWS), 2)
        for square_column in range(left, min(left + 8, COLUMNS), 2)
        for row in (square_row, square_row + 1)
        for column in (square_column, square_column + 1)
    ]


def in_order(states_td: Tensor) -> Tensor:
    grid = states_td.new_full((ROWS, COLUMNS, states_td.shape[-1]), float("nan"))
    for state, (row, column) in zip(states_td, by_window(), strict=True):
        grid[row, column] = state
    return grid.flatten(0, 1)


def own_input(given: Tensor) -> tuple[Tensor, Tensor]:
    """Patches and grids as transformers' processor lays them out, of a picture resized and normalised before."""
    values = interpolate(
        given.double(), size=(14 * ROWS, 14 * COLUMNS), mode="bilinear", align_corners=False, antialias=True
    )
    batch = Qwen2VLImageProcessorPil(do_resize=False, do_rescale=False, do_normalize=False)(
        [picture.numpy() for picture in normalised(QWEN, values)],
        input_data_format="channels_first",
        return_tensors="pt",
    )
    return batch["pixel_values"], batch["image_grid_thw"]


def test_statistics_are_those_of_its_processor() -> None:
    processor = Qwen2VLImageProcessorPil()
    spec = TEACHERS["qwen2.5-vl"]
    assert (spec.mean, spec.std) == (tuple(processor.image_mean), tuple(processor.image_std))
    assert (spec.patch, spec.merge) == (processor.patch_size, processor.merge_size)


def test_pictures_are_cut_as_by_its_processor() -> None:
    given = pictures(2, 56, 84)
    batch = Qwen2VLImageProcessorPil(do_resize=False)(
        [picture.permute(1, 2, 0).numpy() for picture in given], return_tensors="pt"
    )
    assert batch["image_grid_thw"].tolist() == [[1, 4, 6]] * 2
    found = qwen_patches(normalised(QWEN, given), patch=14, merge=2, frames=2)
    torch.testing.assert_close(found, batch["pixel_values"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_features_are_those_of_the_wanted_layer_row_by_row(layer: int, tmp_path: Path) -> None:
    """Before the merger's layers, with its norm or without: each picture alone, held against a batch of two."""
    tower = write_qwen(tmp_path)
    given = pictures(2, 16 * ROWS, 16 * COLUMNS)
    seen: list[Tensor] = []
    tower.blocks[layer - 1].register_forward_hook(lambda *call: seen.append(call[2]))
    with torch.no_grad():
        for picture in given:
            patches, grids = own_input(picture[None])
            tower(patches, grid_thw=grids)
        plain = torch.stack([in_order(states) for states in seen])
        normed = tower.merger.ln_q(plain)
    spec = replace(QWEN, layer=layer)
    found = load_teacher(replace(spec, final_norm=False), tmp_path).features(given)
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(load_teacher(spec, tmp_path).features(given), normed, rtol=1e-4, atol=1e-4)
    assert (plain - normed).abs().max() > 0.1
    assert (plain[0] - plain[1]).abs().max() > 0.1


def test_a_bright_cell_moves_its_own_feature_most() -> None:
    teacher = tiny_teacher(family="qwen2.5-vl", final_norm=False)
    base = torch.full((1, 3, 16 * ROWS, 16 * COLUMNS), 90, dtype=torch.uint8)
    before = teacher.features(base)
    assert before.shape == (1, ROWS * COLUMNS, WIDTH)
    for row, column in np.ndindex(ROWS, COLUMNS):
        changed = base.clone()
        changed[:, :, 16 * row + 3 : 16 * row + 13, 16 * column + 3 : 16 * column + 13] = 255
        moved = (teacher.features(changed) - before).norm(dim=-1)
        assert moved.argmax() == row * COLUMNS + column


def test_the_reference_of_a_training_has_a_feature_per_token_and_odd_grids_are_refused() -> None:
    teacher = tiny_teacher(family="qwen2.5-vl")
    assert teacher.features(pictures(1, 480, 832)).shape == (1, 30 * 52, WIDTH)
    for height, width in ((48, 64), (64, 80)):
        with pytest.raises(ValueError, match=f"multiples of 32, not {height} and {width}"):
            teacher.features(pictures(1, height, width))


def test_both_published_prefixes_are_read(tmp_path: Path) -> None:
    write_qwen(tmp_path)
    expected = load_teacher(QWEN, tmp_path).features(pictures(1, 64, 64))
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 1, "several shards"
    assert {key.split(".")[0] for key in index["weight_map"]} == {"visual", "model", "lm_head"}

    def newer(key: str) -> str:
        return f"model.{key}" if key.startswith("visual.") else key.replace("model.", "model.language_model.")

    for shard in sorted(tmp_path.glob("*.safetensors")):
        write_safetensors(shard, {newer(key): tensor for key, tensor in load_file(shard).items()})
    index["weight_map"] = {newer(key): name for key, name in index["weight_map"].items()}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert torch.equal(load_teacher(QWEN, tmp_path).features(pictures(1, 64, 64)), expected)


def test_the_tower_of_another_size_is_refused(tmp_path: Path) -> None:
    """The towers of 3B and 7B differ in nothing but the width after merging."""
    write_qwen(tmp_path, out_hidden_size=16)
    with pytest.raises(BadInput, match=r"not the weights of qwen2\.5-vl") as caught:
        load_teacher(QWEN, tmp_path)
    assert caught.value.details == (("width when merged", "16 instead of 24"),)


def test_its_weights_may_be_bfloat16(tmp_path: Path) -> None:
    write_qwen(tmp_path)
    exact = load_teacher(QWEN, tmp_path).features(pictures(1, 64, 96))
    rounded = load_teacher(QWEN, tmp_path, dtype=torch.bfloat16).features(pictures(1, 64, 96))
    assert torch.cosine_similarity(rounded, exact, dim=-1).min() > 0.99
