"""Two minutes of training: references are learned, and the alignment does what it is for."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from tests.training.running import lines_of, refeval

# An eighth of the recipe `sprites`; docs/sprites.md has what the whole of it learns.
_SHORT = {
    "run.iterations": 300,
    "run.save_every": 300,
    "run.sample_every": 0,
    "testbed.teacher_steps": 150,
    "testbed.assessed_clips": 64,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of a training, and what the command has told of it."""
    folder = tmp_path_factory.mktemp("learning")
    changes = [part for name, value in _SHORT.items() for part in ("--set", f"{name}={value}")]
    ended = refeval(folder / "said", "train", "--config", "sprites", "--out", folder / "training", *changes, "--json")
    assert ended.code == 0, ended.err
    return folder / "training", json.loads(ended.out)


@pytest.mark.parametrize("name", ["motion", "colour", "identity", "both-ways"])
def test_clips_follow_their_reference_and_its_swap(trained: tuple[Path, dict[str, Any]], name: str) -> None:
    found = [one for one in trained[1]["measures"] if one["name"] == name]
    assert [one["references"] for one in found] == (["swapped"] if name == "both-ways" else ["own", "swapped"])
    for one in found:
        assert one["asked"] == 64 and one["low"] > 1.5 * one["chance"], one
        assert one["real"] > 0.9, "the question can be answered"


def test_the_losses_fall(trained: tuple[Path, dict[str, Any]]) -> None:
    lines = lines_of(trained[0])
    for block in (0, 1):
        positive = [line["positive"][block] for line in lines]
        assert fmean(positive[-50:]) < 0.2 * fmean(positive[:5])
    error = [line["error"] for line in lines]
    assert fmean(error[-50:]) < 0.85 * fmean(error[:5])


def test_references_of_different_subjects_move_apart(trained: tuple[Path, dict[str, Any]]) -> None:
    apart = trained[1]["separability"]
    assert apart["block"] == 2
    assert apart["after"] > 1.2 * apart["before"]
