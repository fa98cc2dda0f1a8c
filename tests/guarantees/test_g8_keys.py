"""G8: resume never mixes; G10: missing records cannot raise a score silently; G12: reports go with the folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from refeval.keys import task_key
from tests.guarantees.broken_clips import moving_frames, write_good_clip, write_video
from tests.guarantees.command import SMALL, executed_tasks, refeval, results, write_suite

FIELDS: dict[str, Any] = {
    "kind": "score",
    "case": "c",
    "seed": 0,
    "plugin": "p",
    "version": "1",
    "settings": {"a": 1},
    "weights": {"w": "0"},
    "decoder": "d 1",
    "layout": "single",
    "inputs": {"clip": "0"},
}
CHANGED: dict[str, Any] = {
    "kind": "render",
    "case": "d",
    "seed": 1,
    "plugin": "q",
    "version": "2",
    "settings": {"a": 2},
    "weights": {"w": "1"},
    "decoder": "d 2",
    "layout": "2 devices",
    "inputs": {"clip": "1"},
}


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_makes_another_key(field: str) -> None:
    assert task_key(**FIELDS) != task_key(**{**FIELDS, field: CHANGED[field]})
    assert task_key(**FIELDS) == task_key(**dict(reversed(FIELDS.items())))


@pytest.fixture
def ready(tmp_path: Path) -> tuple[Path, tuple[str | Path, ...], Path]:
    clips = tmp_path / "clips"
    clips.mkdir()
    for case in ("singleobj_1", "singleobj_2"):
        write_good_clip(clips / f"{case}.mp4")
    suite = write_suite(tmp_path / "suite.json", ["singleobj_1", "singleobj_2"])
    run = tmp_path / "run"
    command = ("run", "--model", f"videos:{clips}", "--suite", suite, "--out", run)
    assert refeval(*command).returncode == 0
    return clips, command, run


def test_a_changed_clip_is_scored_anew_and_the_old_results_are_kept(
    ready: tuple[Path, tuple[str | Path, ...], Path],
) -> None:
    clips, command, run = ready
    before = results(run)
    write_video(clips / "singleobj_1.mp4", moving_frames(step=3))
    assert refeval(*command).returncode == 0
    after = results(run)
    assert after["videos/singleobj_1.mp4"] == (clips / "singleobj_1.mp4").read_bytes()
    assert after["scores/motion_amplitude/singleobj_1.json"] != before["scores/motion_amplitude/singleobj_1.json"]
    assert after["scores/motion_amplitude/singleobj_2.json"] == before["scores/motion_amplitude/singleobj_2.json"]
    (kept,) = (run / "scores/motion_amplitude/superseded").iterdir()
    assert kept.read_bytes() == before["scores/motion_amplitude/singleobj_1.json"]
    assert len(list((run / "videos/superseded").iterdir())) == 2
    assert executed_tasks(run) == 4 + 2
    assert "superseded" in refeval("check", run).stdout


def test_another_decoder_is_another_score(ready: tuple[Path, tuple[str | Path, ...], Path]) -> None:
    _, command, run = ready
    assert refeval(*command, "--decoder", "decord").returncode == 0
    assert executed_tasks(run) == 4 + 2
    assert len(list((run / "scores/motion_amplitude/superseded").iterdir())) == 2


def test_a_clip_that_turns_up_later_is_taken(ready: tuple[Path, tuple[str | Path, ...], Path]) -> None:
    clips, command, run = ready
    (clips / "singleobj_2.mp4").rename(clips / "aside")
    assert refeval(*command).returncode == 3
    assert json.loads((run / "scores/motion_amplitude/singleobj_2.json").read_text())["status"] == "missing"
    (clips / "aside").rename(clips / "singleobj_2.mp4")
    assert refeval(*command).returncode == 0


def test_another_run_is_refused_in_the_same_folder(tmp_path: Path) -> None:
    assert refeval("run", *SMALL, "--out", tmp_path / "run", "--limit", "1").returncode == 0
    kept = results(tmp_path / "run")
    refused = refeval("run", *SMALL, "--out", tmp_path / "run", "--seed", "1")
    assert refused.returncode == 2
    assert "seed differs" in refused.stderr
    assert "--out" in refused.stderr
    assert results(tmp_path / "run") == kept


def test_missing_records_show_and_never_pass_for_a_score(
    ready: tuple[Path, tuple[str | Path, ...], Path],
) -> None:
    _, _, run = ready
    (run / "scores/motion_amplitude/singleobj_1.json").unlink()
    total = json.loads(refeval("total", run, "--json").stdout)
    assert total["counts"]["motion_amplitude"]["scored"] == 1
    assert total["counts"]["motion_amplitude"]["applicable"] == 2
    assert not total["complete"]
    strict = refeval("total", run, "--protocol", "strict", "--json")
    assert strict.returncode == 3
    assert json.loads(strict.stdout)["total_score"] is None
    assert "1 without a record" in refeval("check", run).stdout


def test_reports_are_rebuilt_from_a_copy_elsewhere(tmp_path: Path) -> None:
    run = tmp_path / "here" / "run"
    assert refeval("run", *SMALL, "--out", run, "--limit", "3").returncode == 0
    copy = tmp_path / "there" / "other-parent" / "run"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "reports")
    nowhere = {"REFEVAL_CACHE": str(tmp_path / "no-data")}
    kept = results(run)
    assert refeval("report", copy, env=nowhere).returncode == 0
    rebuilt = results(copy)
    assert {name: rebuilt[name] for name in kept} == kept
    # Tables and figures are written by the command alone.
    assert refeval("report", run).returncode == 0
    assert rebuilt == results(run)
    assert {"reports/tables/main.tex", "reports/figures/profiles.svg"} <= set(rebuilt)
