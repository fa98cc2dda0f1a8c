"""Checkpoints are whole or absent, and give back what they were given."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from refeval.errors import BadInput, CorruptFile
from refeval.training.checkpoints import (
    State,
    checkpoint_folder,
    checkpoints,
    last_good,
    read_checkpoint,
    remove_leftovers,
    write_checkpoint,
)
from refeval.training.folder import trained_tensors


def state(step: int, *, average: bool = True) -> State:
    torch.manual_seed(step)
    tensors = {"network.a": torch.randn(3, 5), "network.b": torch.randn(7), "projectors.0.c": torch.randn(2, 2)}
    optimizers = {"0.network.a.exp_avg": torch.randn(3, 5), "0.network.a.step": torch.tensor(float(step))}
    kept = {name: tensor + 1 for name, tensor in tensors.items()} if average else {}
    return State(step=step, loss_mean=0.1 + 1 / step, parameters=tensors, optimizers=optimizers, average=kept)


@pytest.mark.parametrize("average", [True, False])
def test_what_is_written_is_read(average: bool, tmp_path: Path) -> None:
    before = state(3, average=average)
    after = read_checkpoint(write_checkpoint(tmp_path, before, keep=1))
    assert (after.step, after.loss_mean) == (3, before.loss_mean)
    for part in ("parameters", "optimizers", "average"):
        ours, theirs = getattr(before, part), getattr(after, part)
        assert {name: tensor.tolist() for name, tensor in ours.items()} == {
            name: tensor.tolist() for name, tensor in theirs.items()
        }
        assert {tensor.dtype for tensor in theirs.values()} <= {torch.float32}


def test_the_last_ones_are_kept_and_later_than_a_million_comes_later(tmp_path: Path) -> None:
    for step in (5, 10, 999_999, 1_000_000):
        write_checkpoint(tmp_path, state(step), keep=3)
    assert [step for step, _ in checkpoints(tmp_path)] == [10, 999_999, 1_000_000]
    found, complaints = last_good(tmp_path)
    assert found is not None and found.step == 1_000_000 and not complaints


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def cut(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def other_step(file: Path) -> None:
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "step": 7}))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("parameters.safetensors", flip),
        ("optimizers.safetensors", cut),
        ("average.safetensors", Path.unlink),
        ("checkpoint.json", Path.unlink),
        ("checkpoint.json", other_step),
        ("checkpoint.json", cut),
    ],
)
def test_damage_is_found_and_the_checkpoint_before_it_serves(
    name: str, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    for step in (5, 10):
        write_checkpoint(tmp_path, state(step), keep=2)
    damage(checkpoint_folder(tmp_path, 10) / name)
    with pytest.raises(CorruptFile, match="step-000010") as raised:
        read_checkpoint(checkpoint_folder(tmp_path, 10))
    assert "step-000010" in str(raised.value.cure)
    found, complaints = last_good(tmp_path)
    assert found is not None and found.step == 5
    assert len(complaints) == 1 and "step-000010" in complaints[0]
    # A damaged one is replaced when its iteration comes again.
    write_checkpoint(tmp_path, state(10), keep=2)
    assert read_checkpoint(checkpoint_folder(tmp_path, 10)).step == 10


def test_weights_can_be_had_of_a_checkpoint_whose_optimizers_are_damaged(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, state(5), keep=1)
    cut(checkpoint_folder(tmp_path, 5) / "optimizers.safetensors")
    step, tensors = trained_tensors(tmp_path)
    assert step == 5 and torch.equal(tensors["network.b"], state(5).average["network.b"])
    _, raw = trained_tensors(tmp_path, step=5, average=False)
    assert torch.equal(raw["network.b"], state(5).parameters["network.b"])
    with pytest.raises(BadInput, match="no checkpoint of iteration 4"):
        trained_tensors(tmp_path, step=4)


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    whole = write_checkpoint(tmp_path, state(5), keep=1)
    half = tmp_path / "checkpoints" / ".step-000010.abcd.tmp"
    half.mkdir()
    (half / "parameters.safetensors").write_bytes(b"half")
    (tmp_path / ".training.json.abcd.tmp").write_bytes(b"half")
    (tmp_path / "notes.tmp").write_bytes(b"the user's")
    remove_leftovers(tmp_path)
    assert not half.exists() and read_checkpoint(whole).step == 5
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints", "notes.tmp"}
