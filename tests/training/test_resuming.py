"""Whatever ends a training, the same command goes on to what it would have made: to the bit."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import torch

from refeval.faults import TRAINING_FAULT_POINTS
from refeval.training.checkpoints import checkpoint_folder, checkpoints
from tests.training.running import Ended, Running, lines_of, refeval, start, tensors_of

# One kill after the other in one folder. Files are written in this order: the document, the teacher, three files of
# tensors and the document of a checkpoint; there is one every 5 iterations.
_KILLS = (
    "lease-taken:1",
    "before-replace:1",
    "before-replace:2",
    "after-replace:1",
    "before-replace:2",
    "trained:3",
    "after-replace:2",
    "checkpoint-written:1",
    "trained:7",
    "before-replace:4",
    "checkpoint-written:1",
    "after-replace:6",
    "trained:8",
)


def same(left: Path, right: Path) -> None:
    """Whether two folders hold the same training, to the bit."""
    for step in sorted({step for step, _ in checkpoints(left)} & {step for step, _ in checkpoints(right)}):
        ours, theirs = tensors_of(left, step), tensors_of(right, step)
        assert list(ours) == list(theirs)
        assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert lines_of(left) == lines_of(right)
    clips = [f"clips/step-0000{step}/{name}" for step in (10, 20) for name in ("01.mp4", "clips.json")]
    for name in ("assessment.json", "separability.json", *clips):
        assert (left / name).read_bytes() == (right / name).read_bytes()


def steps_of(training: Path) -> list[int]:
    return [step for step, _ in checkpoints(training)]


def begin(tmp_path: Path, config: Path, env: dict[str, str] | None = None) -> Running:
    return start(tmp_path / "said", "train", "--config", config, "--out", tmp_path / "training", env=env)


def stop_after(running: Running, folder: Path, steps: int, number: signal.Signals) -> Ended:
    """Send a signal once so many steps are logged."""
    log = folder / "steps.jsonl"
    while not (log.exists() and log.read_bytes().count(b"\n") >= steps):
        assert running.process.is_alive(), running.ended().err
        time.sleep(0.001)
    running.send(number)
    return running.ended()


def test_a_training_holds_all_that_it_promises(undisturbed: Path) -> None:
    tensors = tensors_of(undisturbed)
    assert {name.split()[0] for name in tensors} == {"parameters", "optimizers", "average"}
    kinds = {name.rsplit(".", 1)[1] for name in tensors if name.startswith("optimizers")}
    assert kinds == {"momentum_buffer", "exp_avg", "exp_avg_sq", "step"}
    assert [row["step"] for row in lines_of(undisturbed)] == list(range(1, 21))
    assert steps_of(undisturbed) == [10, 15, 20]
    assert not list(undisturbed.rglob("*.tmp")) and not list((undisturbed / "leases").iterdir())


def test_killed_at_every_fault_point(tmp_path: Path, small_config: Path, undisturbed: Path) -> None:
    assert {kill.partition(":")[0] for kill in _KILLS} == set(TRAINING_FAULT_POINTS)
    for kill in _KILLS:
        killed = begin(tmp_path, small_config, {"REFEVAL_FAULT": kill}).ended()
        assert killed.code == -signal.SIGKILL, f"{kill} was not reached: {killed.err}"
    assert steps_of(tmp_path / "training") == [5, 10, 15]
    ended = begin(tmp_path, small_config).ended()
    assert ended.code == 0, ended.err
    assert "passed over" not in ended.err, "a kill never leaves damage behind"
    assert steps_of(tmp_path / "training") == [10, 15, 20]
    same(tmp_path / "training", undisturbed)
    assert not list((tmp_path / "training").rglob("*.tmp"))


def test_a_signal_keeps_the_iteration_at_hand_and_a_damaged_checkpoint_is_passed_over(
    tmp_path: Path, small_config: Path, undisturbed: Path
) -> None:
    folder = tmp_path / "training"
    stopped = stop_after(begin(tmp_path, small_config), folder, 6, signal.SIGTERM)
    assert stopped.code == 143, stopped.err
    kept = steps_of(folder)
    assert 6 <= kept[-1] < 20 and kept[0] == 5 and len(lines_of(folder)) == kept[-1]
    file = checkpoint_folder(folder, kept[-1]) / "optimizers.safetensors"
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    ended = begin(tmp_path, small_config).ended()
    assert ended.code == 0, ended.err
    assert "passed over" in ended.err and f"step-{kept[-1]:06d}" in ended.err and "sha256" in ended.err
    same(folder, undisturbed)


def test_after_ctrl_c_the_same_command_goes_on(tmp_path: Path, small_config: Path, undisturbed: Path) -> None:
    folder = tmp_path / "training"
    stopped = stop_after(begin(tmp_path, small_config), folder, 2, signal.SIGINT)
    assert stopped.code == 130, stopped.err
    kept = steps_of(folder)[-1]
    assert lines_of(folder) == lines_of(undisturbed)[:kept]
    killed = begin(tmp_path, small_config, {"REFEVAL_FAULT": "trained:2"}).ended()
    assert killed.code == -signal.SIGKILL, killed.err
    # The second iteration was not logged any more; the first follows on what the signal has kept.
    assert lines_of(folder) == lines_of(undisturbed)[: kept + 1]


def test_clips_that_a_stop_left_out_are_drawn_when_it_goes_on(
    tmp_path: Path, small_config: Path, undisturbed: Path
) -> None:
    # Killed at the first file of the clips of iteration 10, whose checkpoint is there: two files of the start, five
    # for each of two checkpoints.
    killed = begin(tmp_path, small_config, {"REFEVAL_FAULT": "before-replace:13"}).ended()
    assert killed.code == -signal.SIGKILL, killed.err
    assert steps_of(tmp_path / "training") == [5, 10] and not list(tmp_path.rglob("clips.json"))
    assert begin(tmp_path, small_config).ended().code == 0
    same(tmp_path / "training", undisturbed)


def test_a_training_that_is_done_is_only_measured_again(undisturbed: Path, tmp_path: Path, small_config: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.glob("checkpoints/*/*")}
    again = refeval(tmp_path / "said", "train", "--config", small_config, "--out", undisturbed)
    assert again.code == 0, again.err
    assert {path: path.stat().st_mtime_ns for path in undisturbed.glob("checkpoints/*/*")} == before
    assert len(lines_of(undisturbed)) == 20
