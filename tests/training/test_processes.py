"""Two processes train as one does: spread or not, and with each other's checkpoints."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from refeval.errors import ExitCode
from refeval.training.checkpoints import checkpoints
from refeval.training.examples import Stream, generator
from tests.training.running import PATIENCE_S, Ended, lines_of, only_train, ranks, start, tensors_of
from tests.training.stubborn import fail_in_one_process, leave_the_group, tell_shards

# Muon rounds to bfloat16 on the way, which would hide more than it shows; micro-batches of one sample, so that sums of
# gradients are taken in another order than by two processes.
_CHANGES = ("optimizer.name=adamw", "run.iterations=8", "run.micro_batch=1", "run.save_every=3", "run.sample_every=0")
# Measured: parameters differ by 1.2e-7, the last bit of those that are near 1; losses by 1e-7 of themselves.
_NOISE = {"atol": 1e-6, "rtol": 1e-5}


def train_by_two(
    tmp_path: Path, config: Path, sharding: str, *changes: str, env: dict[str, str] | None = None
) -> list[Ended]:
    started = ranks(
        tmp_path / "said", config, tmp_path / "training", sharding, *_CHANGES, *changes, env=env, work=only_train
    )
    return [one.ended() for one in started]


def train_by_one(tmp_path: Path, config: Path, *changes: str, env: dict[str, str] | None = None) -> Ended:
    training = tmp_path / "training"
    return start(tmp_path / "said", config, training, "auto", *_CHANGES, *changes, env=env, work=only_train).ended()


@pytest.fixture(scope="module")
def by_one(small_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("by_one")
    ended = train_by_one(folder, small_config)
    assert ended.code == 0, ended.err
    return folder / "training"


def alike(left: Path, right: Path) -> None:
    """Whether two trainings are the same but for the order in which float32 numbers were added."""
    assert [step for step, _ in checkpoints(left)] == [step for step, _ in checkpoints(right)]
    ours, theirs = tensors_of(left), tensors_of(right)
    assert list(ours) == list(theirs)
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], **_NOISE, msg=lambda text, name=name: f"{name}: {text}")
    for before, after in zip(lines_of(left), lines_of(right), strict=True):
        assert before.keys() == after.keys()
        for name, value in before.items():
            assert after[name] == pytest.approx(value, rel=1e-5), name


@pytest.mark.parametrize("sharding", ["no", "yes"])
def test_two_processes_train_as_one_does(sharding: str, tmp_path: Path, small_config: Path, by_one: Path) -> None:
    # Also where one process has a sample without references while the other's has one.
    dropped = [0.1 <= generator(0, position, Stream.DROPPING).random() < 0.4 for position in range(32)]
    assert any(dropped[step + 0] != dropped[step + 2] for step in range(0, 32, 4))
    for ended in train_by_two(tmp_path, small_config, sharding, "run.checkpointing=true"):
        assert ended.code == 0, ended.err
    alike(tmp_path / "training", by_one)


def test_sharded_each_process_holds_its_half(tmp_path: Path, small_config: Path) -> None:
    started = ranks(tmp_path / "said", small_config, work=tell_shards)
    first, second = (json.loads(one.ended().out) for one in started)
    assert first.keys() == second.keys()
    whole = {name: math.prod(shape) for name, (shape, _) in first.items()}
    assert {name: held + second[name][1] for name, (_, held) in first.items()} == whole
    for found in (first, second):
        assert 0.4 < sum(held for _, held in found.values()) / sum(whole.values()) < 0.6


@pytest.mark.parametrize("first", [1, 2])
def test_one_process_goes_on_from_the_checkpoint_of_two_and_two_from_that_of_one(
    first: int, tmp_path: Path, small_config: Path, by_one: Path
) -> None:
    fault = {"REFEVAL_FAULT": "trained:5"}
    if first == 2:
        killed = train_by_two(tmp_path, small_config, "yes", env=fault)
        done = [train_by_one(tmp_path, small_config)]
    else:
        killed = [train_by_one(tmp_path, small_config, env=fault)]
        done = train_by_two(tmp_path, small_config, "yes")
    # Who sees the other die before it dies itself says so.
    codes = {ended.code for ended in killed}
    assert -signal.SIGKILL in codes <= {-signal.SIGKILL, ExitCode.INCOMPLETE}, killed
    assert [ended.code for ended in done] == [0] * len(done), done
    alike(tmp_path / "training", by_one)


def test_muon_moves_shards_as_it_moves_whole_matrices(tmp_path: Path, small_config: Path, undisturbed: Path) -> None:
    training = tmp_path / "training"
    started = ranks(
        tmp_path / "said", small_config, training, "yes", env={"REFEVAL_FAULT": "trained:4"}, work=only_train
    )
    assert -signal.SIGKILL in {one.ended().code for one in started}
    found = lines_of(training)
    assert len(found) == 3 and found[2]["total"] != found[1]["total"]
    for before, after in zip(lines_of(undisturbed), found, strict=False):
        # It rounds to bfloat16 on the way; measured 1.5e-7 of the loss after four moves.
        assert after["total"] == pytest.approx(before["total"], rel=1e-5)
        assert after["gradient_norm"] == pytest.approx(before["gradient_norm"], rel=1e-3)


def test_accelerate_starts_the_processes(tmp_path: Path, small_config: Path, by_one: Path) -> None:
    """As docs/training.md has it, but on a CPU."""
    launch = ("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0")
    command = ("-m", "refeval.cli", "train", "--config", small_config, "--out", tmp_path / "training")
    changes = [part for change in _CHANGES for part in ("--set", change)]
    ended = subprocess.run(
        [sys.executable, "-m", *launch, *map(str, command), "--device", "cpu", *changes],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert ended.returncode == 0, ended.stderr
    alike(tmp_path / "training", by_one)
    assert ended.stdout.count("written") == 1, "one process speaks for both"


def test_a_module_never_waits_for_the_threads_of_its_group(tmp_path: Path, small_config: Path) -> None:
    """It would do so with the interpreter's lock in hand, which those threads may need before they end."""
    assert all(json.loads(one.ended().out) > 0 for one in ranks(tmp_path / "said", small_config, work=leave_the_group))


def test_a_signal_to_one_process_stops_both(tmp_path: Path, small_config: Path) -> None:
    started = ranks(
        tmp_path / "said", small_config, tmp_path / "training", "no", *_CHANGES, "run.iterations=5000", work=only_train
    )
    log = tmp_path / "training" / "steps.jsonl"
    while not (log.exists() and log.read_bytes()):
        assert all(one.process.is_alive() for one in started), [one.err.read_text() for one in started]
    started[1].send(signal.SIGTERM)
    first, second = (one.ended() for one in started)
    assert first.code == 0 and second.code == 143, (first, second)
    [*_, (step, _)] = checkpoints(tmp_path / "training")
    assert len(lines_of(tmp_path / "training")) == step


@pytest.mark.parametrize(
    ("how", "failed", "code", "says"),
    [
        ("input", 1, ExitCode.USAGE, "too many rows are broken"),
        ("gone", 1, 99, ""),
        ("disk", 0, ExitCode.DISK_FULL, "no space to write"),
        ("defect", 1, ExitCode.BUG, "ValueError: a defect"),
    ],
)
def test_no_process_waits_for_one_that_has_failed(
    how: str, failed: int, code: int, says: str, tmp_path: Path, small_config: Path
) -> None:
    started = ranks(tmp_path / "said", small_config, tmp_path / "training", how, work=fail_in_one_process)
    other = started[1 - failed].ended()
    (tmp_path / "go").touch()
    ended = started[failed].ended()
    assert ended.code == code and says in ended.err, ended
    assert other.code == ExitCode.INCOMPLETE and "Traceback" not in other.err, other
    assert "another has failed or is gone" in other.err
    assert not [*(tmp_path / "training").rglob("*.tmp")]
