"""The loop: what an iteration is does not depend on how it is done, and nothing bad is ever kept."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from refeval.errors import ExitCode, UnusableClip
from refeval.training.checkpoints import checkpoint_folder, checkpoints, read_checkpoint
from refeval.training.engine import Engine, OutOfMemory
from refeval.training.examples import Sample
from refeval.training.observers.step_log import StepLog, read_notes, read_steps
from refeval.training.recipe import Recipe, read_recipe
from refeval.training.trainer import Diverged
from tests.training.running import lines_of, refeval, tensors_of
from tests.training.stubborn import PlantedWorld, heavier, trainer_of


def recipe_of(config: Path, **changes: object) -> Recipe:
    """The small recipe with adamw and few iterations, and changes by names with two underscores for the dot."""
    fewer = {"optimizer.name": "adamw", "run.iterations": 4, "run.save_every": 2, "run.sample_every": 0}
    return read_recipe(str(config), fewer | {name.replace("__", "."): value for name, value in changes.items()})


@pytest.mark.parametrize(
    "changes",
    [
        {"objective__depth": 0},
        {"objective__depth": 2},
        {"references": "dual", "objective__depth": 0},
        {"references": "dual", "objective__depth": 1, "run__checkpointing": True},
        {"data__drop_text": 0.0, "data__drop_references": 1.0, "data__drop_both": 0.0},
        {
            "data__dropped_references": "one",
            "data__drop_text": 0.0,
            "data__drop_references": 0.0,
            "data__drop_both": 1.0,
        },
    ],
)
def test_every_parameter_has_a_gradient_in_every_micro_batch(
    changes: dict[str, object], tmp_path: Path, small_config: Path
) -> None:
    """Or else processes would wait for each other's gradients forever."""
    recipe = recipe_of(small_config, run__iterations=1, **changes)
    trainer_of(recipe, tmp_path).run()
    state = read_checkpoint(checkpoint_folder(tmp_path, 1))
    # An optimizer keeps something of a parameter only once that has had a gradient.
    moved = {name.removeprefix("0.").rpartition(".")[0] for name in state.optimizers}
    assert moved == set(state.parameters)


@pytest.mark.parametrize("failure", [UnusableClip("black"), torch.OutOfMemoryError("CUDA out of memory.")])
def test_clips_that_cannot_be_drawn_are_noted_and_training_goes_on(
    failure: Exception, tmp_path: Path, small_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(PlantedWorld, "draw", fail)
    log = StepLog(tmp_path)
    trainer_of(recipe_of(small_config, run__sample_every=3), tmp_path).run(log)
    log.close()
    assert [(note.step, note.name) for note in read_notes(tmp_path)] == [(3, "clips/failed"), (4, "clips/failed")]
    assert [step for step, _ in checkpoints(tmp_path)] == [2, 4]


def test_a_gpu_that_is_too_small_is_no_defect() -> None:
    with (
        pytest.raises(OutOfMemory, match="not enough memory") as raised,
        Engine(device="cpu", precision="fp32").connected(),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert "run.micro_batch" in str(raised.value.cure)


def test_micro_batches_only_change_the_order_of_sums(tmp_path: Path, small_config: Path) -> None:
    folders = {size: tmp_path / str(size) for size in (1, 2, 4)}
    for size, folder in folders.items():
        trainer = trainer_of(recipe_of(small_config, run__micro_batch=size), folder)
        trainer.run(StepLog(folder))
    whole, lines = tensors_of(folders[4]), lines_of(folders[4])
    for size in (1, 2):
        found = tensors_of(folders[size])
        assert list(found) == list(whole)
        for name, tensor in whole.items():
            # Measured: 1.2e-7, the last bit of parameters near 1.
            torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=1e-5)
        for before, after in zip(lines, lines_of(folders[size]), strict=True):
            assert {name: pytest.approx(value, rel=1e-5) for name, value in before.items()} == after


def test_threads_that_read_change_nothing(tmp_path: Path, small_config: Path) -> None:
    for threads in (1, 5):
        folder = tmp_path / str(threads)
        trainer_of(recipe_of(small_config, run__micro_batch=1), folder, threads=threads).run(StepLog(folder))
    first, second = tensors_of(tmp_path / "1"), tensors_of(tmp_path / "5")
    assert list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)
    assert lines_of(tmp_path / "1") == lines_of(tmp_path / "5")


def test_in_bfloat16_parameters_and_losses_stay_float32(tmp_path: Path, small_config: Path) -> None:
    for precision in ("fp32", "bf16"):
        folder = tmp_path / precision
        trainer_of(recipe_of(small_config, run__precision=precision), folder).run(StepLog(folder))
    exact, rough = tensors_of(tmp_path / "fp32"), tensors_of(tmp_path / "bf16")
    assert {tensor.dtype for tensor in rough.values()} == {torch.float32}
    assert any(not torch.equal(exact[name], rough[name]) for name in exact), "bfloat16 has left a trace"
    for before, after in zip(read_steps(tmp_path / "fp32"), read_steps(tmp_path / "bf16"), strict=True):
        # 8 bits of mantissa: 0.4 % of a number, less of a mean of thousands.
        assert after.total == pytest.approx(before.total, rel=5e-3)
        assert after.total != float(torch.tensor(after.total).bfloat16()), "a loss in bfloat16 has 8 bits"


def poisoned(position: int, sample: Sample) -> Sample:
    """Every error of the third iteration is no number."""
    return heavier(sample, np.nan) if position // 4 == 2 else sample


def too_heavy(position: int, sample: Sample) -> Sample:
    """A loss that is finite in the third iteration, and a gradient whose norm is not."""
    return heavier(sample, 1e36) if position // 4 == 2 else sample


@pytest.mark.parametrize("plant", [poisoned, too_heavy])
def test_what_is_not_finite_stops_the_training_and_is_not_kept(plant, tmp_path: Path, small_config: Path) -> None:  # type: ignore[no-untyped-def]
    recipe = recipe_of(small_config)
    good = tmp_path / "good"
    trainer_of(replace(recipe, run=replace(recipe.run, iterations=4, save_every=1)), good).run()
    with pytest.raises(Diverged, match="iteration 3") as raised:
        trainer_of(recipe, tmp_path / "bad", plant).run(StepLog(tmp_path / "bad"))
    last = checkpoint_folder(tmp_path / "bad", 2)
    assert raised.value.exit_code == ExitCode.INCOMPLETE and str(last) in str(raised.value)
    assert [folder for _, folder in checkpoints(tmp_path / "bad")] == [last]
    kept, expected = tensors_of(tmp_path / "bad"), tensors_of(good, 2)
    assert list(kept) == list(expected) and all(torch.equal(kept[name], expected[name]) for name in kept)
    assert len(lines_of(tmp_path / "bad")) == 2
    # What has gone wrong once goes wrong again: the same command does not walk past it.
    with pytest.raises(Diverged, match="iteration 3"):
        trainer_of(recipe, tmp_path / "bad", plant).run()


def test_an_exploding_loss_stops_the_training(tmp_path: Path, small_config: Path) -> None:
    recipe = recipe_of(small_config, run__iterations=40, run__micro_batch=4, run__save_every=35, run__explode=20.0)

    def plant(factor: float):  # type: ignore[no-untyped-def]
        return lambda position, sample: heavier(sample, factor) if position // 4 in (5, 36) else sample

    # A jump of a young training is nothing to worry about, nor is a small one later.
    with pytest.raises(Diverged, match="iteration 37") as raised:
        trainer_of(recipe, tmp_path / "bad", plant(200.0)).run()
    assert [step for step, _ in checkpoints(tmp_path / "bad")] == [35]
    assert "at most 20 times the mean" in str(raised.value)
    patient = replace(recipe, run=replace(recipe.run, explode=1000.0))
    trainer = trainer_of(patient, tmp_path / "bad", plant(200.0))
    assert trainer.step == 35
    trainer.run()
    assert trainer.step == 40


def test_a_full_disk_costs_no_checkpoint_that_is_there(tmp_path: Path, small_config: Path, undisturbed: Path) -> None:
    folder = tmp_path / "training"
    command = ("train", "--config", small_config, "--out", folder)
    # The document and the teacher are there, and no room for curves.
    assert refeval(tmp_path / "said", *command, env={"REFEVAL_FAULT": "after-replace:2"}).code == -signal.SIGKILL
    early = refeval(tmp_path / "said", *command, limit_bytes=2000)
    assert early.code == ExitCode.DISK_FULL and "tensorboard" in early.err, early.err
    killed = refeval(tmp_path / "said", *command, env={"REFEVAL_FAULT": "trained:7"})
    assert killed.code == -signal.SIGKILL, killed.err
    before = {path: path.read_bytes() for path in folder.glob("checkpoints/*/*")}
    # The parameters fit, the state of the optimizers does not.
    sizes = sorted(path.stat().st_size for path in folder.glob("checkpoints/*/*.safetensors"))
    full = refeval(tmp_path / "said", *command, limit_bytes=(sizes[-2] + sizes[-1]) // 2)
    assert full.code == ExitCode.DISK_FULL, full.err
    assert "no space to write" in full.err and "Traceback" not in full.err
    assert {path: path.read_bytes() for path in folder.glob("checkpoints/*/*")} == before
    assert not list(folder.rglob("*.tmp"))
    done = refeval(tmp_path / "said", *command)
    assert done.code == 0, done.err
    ours, theirs = tensors_of(folder), tensors_of(undisturbed)
    assert list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert lines_of(folder) == lines_of(undisturbed)
