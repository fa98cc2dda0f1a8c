"""Where a model works: weights folder, device, memory preset and GPUs reach every worker, and nothing is hashed but
the parallel layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.guarantees.command import executed_tasks, refeval, write_suite
from tests.guarantees.small_generator import SMALL_CLIP
from tests.guarantees.test_g3_pipeline import install_plugin

CASES = tuple(f"singleobj_{number}" for number in range(1, 7))

_PLUGIN = """
import dataclasses, os
from fractions import Fraction
from pathlib import Path
from refeval.cases import ClipSpec
from refeval.errors import MissingPrerequisite
from tests.guarantees.small_generator import SmallGenerator, moving_clip, wait_for

class Placed(SmallGenerator):
    def own_clip(self, suite):
        return ClipSpec(width=64, height=48, frames=6, fps=Fraction(8))

    def render(self, job):
        place = {**dataclasses.asdict(self.place), "weights": str(self.place.weights)}
        job.notes.update(gpus=os.environ.get("CUDA_VISIBLE_DEVICES"), place=place)
        return moving_clip(job.clip)

class Shared(Placed):
    # The first clip of each of two workers waits for the other one.
    def prepare(self, *_):
        folder = Path(self.argument)
        (folder / os.environ["CUDA_VISIBLE_DEVICES"]).touch()
        for name in folder.name.split("+"):
            if not wait_for(folder / name):
                raise TimeoutError(name)

class Absent(Placed):
    def weights(self):
        raise MissingPrerequisite("no weights", cure="refeval fetch model absent")

    def check(self):
        raise MissingPrerequisite("looked before anything is written", cure="refeval fetch model absent")
"""
_ENTRY_POINTS = "[refeval.generators]\nplaced = plugin:Placed\nshared = plugin:Shared\nabsent = plugin:Absent\n"


class _Setting:
    def __init__(self, folder: Path) -> None:
        self.env = install_plugin(folder, _PLUGIN, _ENTRY_POINTS)
        self.folder = folder
        self.run = folder / "run"
        self.suite = write_suite(folder / "suite.json", CASES)

    def command(self, model: str) -> tuple[str | Path, ...]:
        return ("render", "--model", model, "--suite", self.suite, "--out", self.run)

    def notes(self) -> list[dict[str, Any]]:
        return [json.loads((self.run / f"videos/{case}.json").read_text())["notes"] for case in CASES]


@pytest.fixture
def setting(tmp_path: Path) -> _Setting:
    return _Setting(tmp_path)


@pytest.mark.parametrize(
    ("visible", "options", "groups"),
    [
        ("3,5", ("--gpus", "2"), ("3", "5")),
        ("3,5,GPU-a,7", ("--gpus", "4", "--gpus-per-clip", "2"), ("3,5", "GPU-a,7")),
    ],
)
def test_every_worker_sees_its_own_gpus(
    visible: str, options: tuple[str, ...], groups: tuple[str, ...], setting: _Setting
) -> None:
    meeting = setting.folder / "+".join(groups)
    meeting.mkdir()
    env = {**setting.env, "CUDA_VISIBLE_DEVICES": visible}
    done = refeval(*setting.command(f"shared:{meeting}"), *options, env=env)
    assert done.returncode == 0, done.stderr
    assert {notes["gpus"] for notes in setting.notes()} == set(groups)
    assert executed_tasks(setting.run) == len(CASES)


def test_the_place_reaches_the_worker_and_only_the_layout_is_hashed(setting: _Setting) -> None:
    weights = setting.folder / "weights"
    first = ("--weights", weights, "--device", "cpu", "--memory", "stream")
    assert refeval(*setting.command("placed"), *first, env=setting.env).returncode == 0
    expected = {"weights": str(weights), "device": "cpu", "memory": "stream", "gpus_per_clip": 1, "processes": 1}
    assert [notes["place"] for notes in setting.notes()] == [expected] * len(CASES)
    assert str(weights) not in (setting.run / "manifest.json").read_text()
    elsewhere = {**setting.env, "REFEVAL_WEIGHTS": str(setting.folder)}
    assert refeval(*setting.command("placed"), "--memory", "full", env=elsewhere).returncode == 0
    assert executed_tasks(setting.run) == len(CASES), "another place is the same task"
    assert refeval(*setting.command("placed"), "--gpus-per-clip", "2", env=elsewhere).returncode == 0
    assert executed_tasks(setting.run) == 2 * len(CASES), "another layout is another task"
    assert setting.notes()[0]["place"]["weights"] == str(setting.folder)


def test_a_models_own_clip_goes_before_the_suites(setting: _Setting) -> None:
    alone = ("--limit", "1")
    assert refeval(*setting.command("placed"), *alone, env=setting.env).returncode == 0
    assert json.loads((setting.run / "manifest.json").read_text())["clip"] == {
        "width": 64, "height": 48, "frames": 6, "fps": "8",
    }  # fmt: skip
    other = setting.folder / "other"
    assert refeval(*setting.command("placed"), *alone, "--frames", "9", "--out", other, env=setting.env).returncode == 0
    clip = json.loads((other / "manifest.json").read_text())["clip"]
    assert (clip["width"], clip["frames"]) == (64, 9)


def test_what_is_missing_is_told_before_anything_is_written_but_not_to_a_dry_run(setting: _Setting) -> None:
    command = setting.command("absent")
    forecast = refeval(*command, "--dry-run", "--json", "--gpus", "64", env=setting.env)
    assert forecast.returncode == 0, forecast.stderr
    assert json.loads(forecast.stdout)["render"] == len(CASES)
    refused = refeval(*command, env=setting.env)
    assert refused.returncode == 2
    assert "looked before anything is written" in refused.stderr
    assert "refeval fetch model absent" in refused.stderr
    assert not setting.run.exists()
    assert refeval(*setting.command("placed"), *SMALL_CLIP, "--limit", "1", env=setting.env).returncode == 0
    unknown = refeval(*command, "--dry-run", env=setting.env)
    assert unknown.returncode == 2, "whether it is the same run depends on the weights"
    assert "no weights" in unknown.stderr


@pytest.mark.parametrize(
    ("options", "message", "cure"),
    [
        (("--gpus", "2", "--workers", "2"), "--gpus and --workers exclude each other", "leave --workers out"),
        (("--gpus", "3", "--gpus-per-clip", "2"), "--gpus 3 is not a multiple of --gpus-per-clip 2", "--gpus 2"),
        (("--gpus", "1", "--gpus-per-clip", "2"), "--gpus 1 is not a multiple of --gpus-per-clip 2", "--gpus 2"),
        (("--gpus", "3"), "asked for 3 GPUs, CUDA_VISIBLE_DEVICES names 2", "--gpus 2"),
        (("--device", "cude"), "unknown device 'cude'. Did you mean 'cuda'?", "known  auto, cpu, cuda"),
    ],
)
def test_wrong_places_get_one_message_with_a_cure(
    options: tuple[str, ...], message: str, cure: str, setting: _Setting
) -> None:
    done = refeval(*setting.command("placed"), *options, env={**setting.env, "CUDA_VISIBLE_DEVICES": "3,5"})
    assert done.returncode == 2
    assert done.stderr.startswith(f"refeval: {message}")
    assert cure in done.stderr
    assert not setting.run.exists()
