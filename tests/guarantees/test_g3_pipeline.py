"""G3: a broken clip becomes a ``failed`` record with its reason and a non-zero exit, never a missing row."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.guarantees.broken_clips import BROKEN, REASONS, write_good_clip
from tests.guarantees.command import refeval, write_suite


def test_broken_clips_fail_with_their_reason_and_the_others_are_scored(tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    names = {f"singleobj_{i}": name for i, name in enumerate(BROKEN, 1)}
    assert len(names) == 12
    for case, name in names.items():
        BROKEN[name](clips / f"{case}.mp4")
    write_good_clip(clips / "faceobj_1.mp4")
    suite = write_suite(tmp_path / "suite.json", [*names, "faceobj_1", "humanobj_1"])
    run = tmp_path / "run"
    expected = ("--size", "64x48", "--frames", "8", "--fps", "8")
    done = refeval("run", "--model", f"videos:{clips}", "--suite", suite, "--out", run, *expected, "--json")
    assert done.returncode == 3, done.stderr
    counts = json.loads(done.stdout)["statuses"]["motion_amplitude"]
    assert counts == {"failed": len(BROKEN), "missing": 1, "scored": 1}
    for case, name in names.items():
        record = json.loads((run / f"scores/motion_amplitude/{case}.json").read_text())
        assert record["status"] == "failed"
        assert REASONS[name] in record["reason"], name
    why = refeval("check", run).stdout
    for name in BROKEN:
        assert REASONS[name] in why
    missing = json.loads((run / "scores/motion_amplitude/humanobj_1.json").read_text())
    assert missing["status"] == "missing"
    assert "humanobj_1.mp4" in missing["reason"]


_CRASHING_PLUGIN = """
import os
from pathlib import Path
from refeval.metrics.base import Metric, Score

class Crash(Metric):
    id, label, version, range = "crash", "Crash", "1", (0.0, 1.0)

    def score(self, case, clip):
        if case.id == "singleobj_2":
            os.abort()
        return Score(value=0.5, strict_value=0.5, frames_used=len(clip))
"""


def install_plugin(folder: Path, code: str, entry_points: str) -> dict[str, str]:
    """A package as pip would leave it, on a path of its own; returns the environment that finds it."""
    (folder / "plugin.py").write_text(code)
    information = folder / "plugin-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(entry_points)
    return {"PYTHONPATH": f"{folder}:{':'.join(sys.path)}"}


def test_a_metric_that_kills_its_process_fails_its_case_only(tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    cases = ["singleobj_1", "singleobj_2", "singleobj_3"]
    for case in cases:
        write_good_clip(clips / f"{case}.mp4")
    suite = write_suite(tmp_path / "suite.json", cases)
    env = install_plugin(tmp_path, _CRASHING_PLUGIN, "[refeval.metrics]\ncrash = plugin:Crash\n")
    run = tmp_path / "run"
    command = ("run", "--model", f"videos:{clips}", "--suite", suite, "--out", run, "--metrics", "crash")
    done = refeval(*command, env=env)
    assert done.returncode == 3, done.stderr
    records = [json.loads((run / f"scores/crash/{case}.json").read_text()) for case in cases]
    assert [record["status"] for record in records] == ["scored", "failed", "scored"]
    assert "SIGABRT" in records[1]["reason"]
    assert records[0]["value"] == 0.5
    tries = (run / "logs/worker-0.log").read_text().count("Fatal Python error: Aborted")
    assert refeval(*command, "--retry-failed", env=env).returncode == 3
    assert (run / "logs/worker-0.log").read_text().count("Fatal Python error: Aborted") == 2 * tries


_BROKEN_PLUGIN = """
from refeval.metrics.base import Metric, Score

class Broken(Metric):
    id, label, version, range = "broken", "Broken", "1", (0.0, 1.0)

    def inputs(self, case):
        raise KeyError(case.id)

    def score(self, case, clip):
        raise AssertionError

class Reads(Broken):
    id = "reads"

    def inputs(self, case):
        return case.reference_files()
"""


def test_a_metric_that_kills_workers_outside_any_task_ends_the_command(tmp_path: Path) -> None:
    write_good_clip(tmp_path / "singleobj_1.mp4")
    suite = write_suite(tmp_path / "suite.json", ["singleobj_1"])
    entry_points = "[refeval.metrics]\nbroken = plugin:Broken\nreads = plugin:Reads\ngone = nowhere:Nothing\n"
    env = install_plugin(tmp_path, _BROKEN_PLUGIN, entry_points)
    command = ("run", "--model", f"videos:{tmp_path}", "--suite", suite)
    done = refeval(*command, "--out", tmp_path / "a", "--metrics", "broken", env=env)
    assert done.returncode == 2
    assert "ended unexpectedly" in done.stderr
    assert "worker-0.log" in done.stderr
    others = refeval(*command, "--out", tmp_path / "b", "--metrics", "reads,gone,motion_amplitude", env=env)
    assert others.returncode == 3, others.stderr
    assert "nowhere:Nothing cannot be loaded" in others.stdout
    reads, amplitude = (
        json.loads((tmp_path / f"b/scores/{metric}/singleobj_1.json").read_text())
        for metric in ("reads", "motion_amplitude")
    )
    assert (reads["status"], amplitude["status"]) == ("missing", "scored")
    assert "reference 1 of 1 is missing" in reads["reason"]
    assert "cannot be loaded" in refeval("metrics", env=env).stdout.replace("\n", " ")
