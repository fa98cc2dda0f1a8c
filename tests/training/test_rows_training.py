"""Training on rows of videos, from the command to a run of its clips, killed in the middle of an epoch."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch

from refeval.errors import ExitCode
from refeval.training.checkpoints import checkpoints
from tests.training.data.small_world import make_data
from tests.training.running import Ended, lines_of, refeval, tensors_of

# Seven rows, two of them broken: twelve samples are two epochs of the regular ones, and four of the cross pairs.
_RUN = {"iterations": 6, "global_batch": 2, "micro_batch": 1, "save_every": 2, "sample_every": 0}
_SCORED = ("--limit", "1", "--metrics", "motion_amplitude")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("rows"))


def member(rows: Path, out: Path, env: dict[str, str] | None = None) -> Ended:
    """Train a member of the study of depths with the small recipe beside the rows, render with it and score."""
    changes = {f"run.{name}": value for name, value in _RUN.items()} | {"data.broken_limit": 1.0}
    options = [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]
    command = ("train-ablation", "--config", rows.with_name("tiny.toml"), "--depth", "1", "--data", rows)
    return refeval(out / "said", *command, *options, *_SCORED, "--out", out / "all", "--json", env=env)


def test_a_member_on_rows_that_is_killed_within_an_epoch_ends_as_if_it_had_not_been(rows: Path, tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    undisturbed.mkdir()
    killed.mkdir()
    whole = member(rows, undisturbed)
    assert whole.code == ExitCode.OK, whole.err
    assert json.loads(whole.out)["statuses"] == {"render": {"rendered": 1}, "motion_amplitude": {"scored": 1}}
    assert member(rows, killed, {"REFEVAL_FAULT": "trained:4"}).code == -signal.SIGKILL
    again = member(rows, killed)
    assert again.code == ExitCode.OK, again.err

    ours, theirs = (folder / "all/trainings/depth-1-seed0" for folder in (undisturbed, killed))
    assert [step for step, _ in checkpoints(theirs)] == [2, 4, 6]
    assert lines_of(ours) == lines_of(theirs)
    left, right = tensors_of(ours), tensors_of(theirs)
    assert list(left) == list(right) and all(torch.equal(left[name], right[name]) for name in left)
    runs = [folder / "all/runs/sprites/depth-1-seed0" for folder in (undisturbed, killed)]
    clips = [[path.read_bytes() for path in sorted(run.rglob("*.mp4"))] for run in runs]
    assert len(clips[0]) == 1 and clips[0] == clips[1]
