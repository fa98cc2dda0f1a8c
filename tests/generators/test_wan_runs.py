"""Whole runs of the tiny models as a user starts them: valid clips, and the same bytes after SIGKILL."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.guarantees.command import kill_group, refeval, results, start

SMALL = ("--suite", "sprites", "--limit", "4", "--size", "96x64", "--frames", "9")


def arguments(model: str, run: Path) -> tuple[str, ...]:
    return ("run", "--model", f"{model}:steps=6", *SMALL, "--out", str(run))


@pytest.mark.parametrize("model", ["refalign-tiny", "phantom-tiny", "vace-tiny"])
def test_a_run_ends_with_valid_clips_and_goes_on_after_a_kill(model: str, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    done = refeval(*arguments(model, whole))
    assert done.returncode == 0, done.stderr
    assert refeval("check", whole).returncode == 3, "28 of 32 cases were not asked for"
    records = [json.loads(path.read_text()) for path in sorted((whole / "videos").glob("*.json"))]
    assert len(records) == 4
    for record in records:
        assert record["status"] == "rendered"
        assert record["clip"] == {"width": 96, "height": 64, "frames": 9, "fps": "8"}
        assert record["notes"]["device"] == "cpu"
        assert record["settings"]["steps"] == 6
    assert len({record["sha256"] for record in records}) == 4
    cut = tmp_path / "cut"
    process = start(*arguments(model, cut))
    _wait_for_a_clip(cut)
    kill_group(process)
    assert len(list((cut / "videos").glob("*.json"))) < 4, "it was killed on the way"
    resumed = refeval(*arguments(model, cut))
    assert resumed.returncode == 0, resumed.stderr
    assert results(cut) == results(whole)


def test_two_workers_make_the_same_clips_as_one(tmp_path: Path) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    for run, workers in ((alone, "1"), (shared, "2")):
        done = refeval(*arguments("refalign-tiny", run), "--workers", workers)
        assert done.returncode == 0, done.stderr
    assert results(shared) == results(alone)


def test_another_setting_is_another_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert refeval(*arguments("vace-tiny", run)).returncode == 0
    other = refeval("run", "--model", "vace-tiny:steps=7", *SMALL, "--out", run)
    assert other.returncode == 2
    assert "holds another run" in other.stderr and "vace-tiny:steps=7" in other.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--model", "refalign-1.3b"), ("no weights folder", "refeval fetch model refalign-1.3b")),
        (("--model", "refalign-tiny", "--frames", "16"), ("cannot render 16 frames", "--frames 13 or 17")),
        (("--model", "refalign-tiny:stepz=3"), ("unknown setting 'stepz'", "steps")),
        (("--model", "refalign-tiny", "--memory", "ful"), ("unknown memory preset 'ful'", "full")),
        (("--model", "refalign-tiny", "--device", "cuda"), ("GPU", "--device cpu")),
        (("--model", "refalign-tiny", "--device", "tpu"), ("unknown device 'tpu'", "cuda")),
        (("--model", "refalign-tiny:preset=benchmark-script"), ("has no refined prompt", "refined_prompts=no")),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_written(
    options: tuple[str, ...], said: tuple[str, str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    nowhere = {"CUDA_VISIBLE_DEVICES": "", "REFEVAL_WEIGHTS": ""}
    done = refeval("render", *options, "--suite", "sprites", "--limit", "1", "--out", run, env=nowhere)
    assert done.returncode == 2
    assert all(text in done.stderr for text in said), done.stderr
    assert "Traceback" not in done.stderr
    assert not run.exists()


def test_a_dry_run_says_what_a_model_still_needs(tmp_path: Path) -> None:
    arguments = ("run", "--model", "vace-14b", "--suite", "sprites", "--out", tmp_path / "run", "--dry-run")
    done = refeval(*arguments, "--json", env={"REFEVAL_WEIGHTS": ""})
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert "refeval fetch model vace-14b" in content["lacking"]
    assert content["render"] == 32
    tiny = refeval("run", "--model", "vace-tiny", *arguments[3:], "--json")
    assert json.loads(tiny.stdout)["lacking"] is None


def _wait_for_a_clip(run: Path) -> None:
    for _ in range(1200):
        if list((run / "videos").glob("*.json")):
            return
        time.sleep(0.05)
    raise AssertionError("no clip within a minute")
