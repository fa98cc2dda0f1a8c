"""Scoring in passes: clips decoded ahead, models that share the memory, and what a crash or a second worker changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.guarantees.broken_clips import write_good_clip
from tests.guarantees.command import refeval, results, write_suite
from tests.guarantees.test_g3_pipeline import install_plugin

CASES = ("singleobj_1", "singleobj_2", "singleobj_3")
# Room for both metrics at once, on whatever machine: one metric alone streams its clips, and nothing is decoded ahead.
TOGETHER = ("--gpu-memory", "48")

# What stands in the folder SIGNS says how the metrics behave, and is what they leave for the test.
_PLUGIN = """
import os, time
from pathlib import Path
from refeval.errors import Unavailable
from refeval.metrics.base import MemoryNeed, Metric, Score

SIGNS = Path(os.environ["SIGNS"])

class Small(Metric):
    id, label, version, range = "small", "Small", "1", (0.0, 1.0)
    needs = MemoryNeed(models={"small": 20.0}, work=1.0)

    def begin(self):
        # Two processes that begin at once would meet here.
        (SIGNS / "beginning").touch(exist_ok=False)
        time.sleep(0.3)
        (SIGNS / "beginning").unlink()

    def score(self, case, clip):
        if (SIGNS / "pids").exists():
            (SIGNS / f"pids/{self.id}.{case.id}.{os.getpid()}").touch()
        return Score(value=0.5, strict_value=0.5, frames_used=len(clip))

class Large(Small):
    id, label = "large", "Large"
    needs = MemoryNeed(models={"large": 21.0}, work=1.0)

    def begin(self):
        pass

    def score(self, case, clip):
        if case.id == "singleobj_1" and (SIGNS / "slow").exists():
            time.sleep(60)
        if case.id == "singleobj_1" and (SIGNS / "spent").exists():
            raise Unavailable("nobody answers any more")
        if case.id == "singleobj_2" and (SIGNS / "deadly").exists():
            os.abort()
        return super().score(case, clip)
"""
_ENTRY_POINTS = "[refeval.metrics]\nsmall = plugin:Small\nlarge = plugin:Large\n"


class _Setting:
    """A plug-in with two metrics, a run folder with three clips, and the command that scores them."""

    def __init__(self, folder: Path) -> None:
        self.signs = folder / "signs"
        self.signs.mkdir()
        self.env = {**install_plugin(folder, _PLUGIN, _ENTRY_POINTS), "SIGNS": str(self.signs)}
        clips = folder / "clips"
        clips.mkdir()
        for case in CASES:
            write_good_clip(clips / f"{case}.mp4")
        suite = write_suite(folder / "suite.json", CASES)
        self.run = folder / "run"
        done = refeval("render", "--model", f"videos:{clips}", "--suite", suite, "--out", self.run)
        assert done.returncode == 0, done.stderr
        self.command = ("score", self.run, "--metrics", "small,large", "--json")

    def score(self, *more: str, env: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        done = refeval(*self.command, *more, env={**self.env, **(env or {})})
        return done.returncode, json.loads(done.stdout) if done.stdout else {}

    def record(self, metric: str, case: str) -> dict[str, Any]:
        record: dict[str, Any] = json.loads((self.run / f"scores/{metric}/{case}.json").read_text())
        return record


@pytest.fixture
def setting(tmp_path: Path) -> _Setting:
    return _Setting(tmp_path)


def test_the_next_clip_is_decoded_while_one_is_scored(setting: _Setting) -> None:
    (setting.signs / "slow").touch()
    # The power fails when a second clip is decoded: the first one is still being scored then.
    code, _ = setting.score(*TOGETHER, env={"REFEVAL_FAULT": "decoded:2"})
    assert code == -9
    assert not (setting.run / "scores/small/singleobj_1.json").exists()
    (setting.signs / "slow").unlink()
    assert setting.score(*TOGETHER)[0] == 0
    assert all(setting.record(metric, case)["value"] == 0.5 for metric in ("small", "large") for case in CASES)
    assert not list((setting.run / "leases").iterdir())


def test_a_case_that_is_decoded_ahead_is_not_blamed_for_the_death_of_its_neighbour(setting: _Setting) -> None:
    (setting.signs / "deadly").touch()
    assert setting.score(*TOGETHER)[0] == 3
    assert [setting.record("large", case)["status"] for case in CASES] == ["scored", "failed", "scored"]
    assert "SIGABRT" in setting.record("large", "singleobj_2")["reason"]
    assert setting.record("small", "singleobj_3")["status"] == "scored"


def test_a_metric_that_ends_half_way_takes_no_other_score_with_it(setting: _Setting) -> None:
    # It ends on the first case, when the second one is claimed for both metrics already.
    (setting.signs / "spent").touch()
    code, done = setting.score(*TOGETHER)
    assert (code, done["statuses"]) == (3, {"small": {"scored": 3}})
    assert done["unavailable"]["large"] == "nobody answers any more"
    assert not (setting.run / "scores/large").exists()
    # Nor does it end its process, which another one would quietly replace.
    assert "Traceback" not in (setting.run / "logs/worker-0.log").read_text()
    assert not list((setting.run / "leases").iterdir())
    (setting.signs / "spent").unlink()
    (setting.signs / "pids").mkdir()
    code, done = setting.score(*TOGETHER)
    assert (code, done["statuses"]) == (0, {"small": {"scored": 3}, "large": {"scored": 3}})
    # What was scored is not scored again beside it.
    assert {path.name.partition(".")[0] for path in (setting.signs / "pids").iterdir()} == {"large"}


@pytest.mark.parametrize(("gigabytes", "passes"), [("24", [["large"], ["small"]]), ("48", [["large", "small"]])])
def test_metrics_that_do_not_fit_together_score_in_turn(
    gigabytes: str, passes: list[list[str]], setting: _Setting
) -> None:
    (setting.signs / "pids").mkdir()
    code, forecast = setting.score("--gpu-memory", gigabytes, "--dry-run")
    assert (code, forecast["score"]) == (0, {"small": 3, "large": 3})
    assert [one["metrics"] for one in forecast["passes"]] == passes
    assert not (setting.run / "scores").exists()
    code, done = setting.score("--gpu-memory", gigabytes)
    assert (code, done["statuses"]) == (0, {"small": {"scored": 3}, "large": {"scored": 3}})
    # A process of its own for each pass: its end gives the memory back.
    owners = {path.name.rpartition(".")[2] for path in (setting.signs / "pids").iterdir()}
    assert len(owners) == len(passes)


def test_how_it_is_shared_out_changes_no_byte(setting: _Setting) -> None:
    assert setting.score("--workers", "2")[0] == 0
    shared = results(setting.run)
    for record in (setting.run / "scores").rglob("*.json"):
        record.unlink()
    assert setting.score("--gpu-memory", "24")[0] == 0
    assert results(setting.run) == shared
