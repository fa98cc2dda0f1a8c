"""G5: out of memory: one retry with the declared low-memory preset, noted; then ``failed``, and the run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.guarantees.command import refeval, write_suite
from tests.guarantees.small_generator import SMALL_CLIP
from tests.guarantees.test_g3_pipeline import install_plugin

CASES = ("singleobj_1", "singleobj_2", "singleobj_3")
AFTER_OOM = "sparing, after running out of memory"
AFTER_KILL = "sparing, after a worker was killed"

_PLUGIN = """
import os, signal, weakref
from tests.guarantees.small_generator import SmallGenerator, moving_clip

class Tensors:
    pass

class Hungry(SmallGenerator):
    saving, held, freed = False, None, None

    def settings(self):
        return {"mode": self.argument}

    def prepare(self, clip):
        if self.argument.startswith("loading") and not self.saving:
            raise MemoryError("the weights do not fit")

    def save_memory(self):
        assert not self.saving, "it is asked once"
        self.saving = True
        self.freed = self.held is None or self.held() is None
        return None if self.argument.endswith("without-preset") else "sparing"

    def render(self, job):
        with job.log.open("a") as log:
            log.write("attempt\\n")
        assert not list(job.scratch.iterdir())
        (job.scratch / "left-behind").touch()
        job.notes["freed"] = self.freed
        needy = job.case.id == "singleobj_2" and not self.argument.startswith("loading")
        if needy and not (self.saving and self.argument.endswith("once")):
            self.run_out(self.argument.split("-")[0])
        return moving_clip(job.clip)

    def run_out(self, way):
        tensors = Tensors()
        # As in a real model, only the garbage collector finds it.
        tensors.cycle = tensors
        self.held = weakref.ref(tensors)
        if way == "oom":
            import torch
            raise torch.OutOfMemoryError("CUDA out of memory")
        if way == "host":
            raise MemoryError("no pages left")
        if way == "sigkill":
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(137)
"""


def _render(folder: Path, mode: str) -> tuple[int, list[dict[str, Any]], list[int]]:
    """Exit code, the records of the three clips, and how often each was tried; the second one needs much memory."""
    env = install_plugin(folder, _PLUGIN, "[refeval.generators]\nhungry = plugin:Hungry\n")
    suite, run = write_suite(folder / "suite.json", CASES), folder / "run"
    done = refeval("render", "--model", f"hungry:{mode}", "--suite", suite, *SMALL_CLIP, "--out", run, env=env)
    assert (run / "videos/singleobj_3.json").exists(), done.stderr
    records = [json.loads((run / f"videos/{case}.json").read_text()) for case in CASES]
    attempts = [(run / f"logs/{case}.log").read_text().count("attempt") for case in CASES]
    return done.returncode, records, attempts


@pytest.mark.parametrize("mode", ["oom-once", "host-once"])
def test_a_clip_is_tried_again_with_less_memory(mode: str, tmp_path: Path) -> None:
    code, records, attempts = _render(tmp_path, mode)
    assert code == 0
    assert [record["status"] for record in records] == ["rendered"] * 3
    assert attempts == [1, 2, 1]
    assert not list((tmp_path / "run/cache").iterdir()), "scratch folders are removed"
    assert [record["notes"].get("memory") for record in records] == [None, AFTER_OOM, AFTER_OOM]
    assert records[1]["notes"]["freed"], "what the failed attempt held is gone before it is tried again"
    shown = refeval("explain", tmp_path / "run", "singleobj_2").stdout
    assert AFTER_OOM in " ".join(shown.split())
    assert "notes" in shown


def test_a_clip_that_never_fits_fails_alone(tmp_path: Path) -> None:
    code, records, attempts = _render(tmp_path, "oom-always")
    assert code == 3
    assert [record["status"] for record in records] == ["rendered", "failed", "rendered"]
    assert attempts == [1, 2, 1]
    assert records[1]["reason"] == f"out of memory ({AFTER_OOM}): OutOfMemoryError: CUDA out of memory"
    assert records[1]["notes"]["memory"] == AFTER_OOM


def test_without_a_preset_a_clip_is_tried_once(tmp_path: Path) -> None:
    code, records, attempts = _render(tmp_path, "oom-without-preset")
    assert code == 3
    assert attempts == [1, 1, 1]
    assert records[1]["reason"] == "out of memory: OutOfMemoryError: CUDA out of memory"
    assert "memory" not in records[2]["notes"]


@pytest.mark.parametrize("mode", ["exit137-once", "sigkill-once"])
def test_a_killed_worker_is_followed_by_one_that_spares_memory(mode: str, tmp_path: Path) -> None:
    code, records, attempts = _render(tmp_path, mode)
    assert code == 0
    assert [record["status"] for record in records] == ["rendered"] * 3
    assert attempts[1] == 2
    assert [record["notes"].get("memory") for record in records[1:]] == [AFTER_KILL, AFTER_KILL]


def test_a_clip_that_always_kills_its_worker_fails_alone(tmp_path: Path) -> None:
    code, records, attempts = _render(tmp_path, "exit137-always")
    assert code == 3
    assert [record["status"] for record in records] == ["rendered", "failed", "rendered"]
    assert attempts[1] == 2
    assert "died 2 times on it (exit code 137)" in records[1]["reason"]
    assert records[2]["notes"]["memory"] == AFTER_KILL


def test_a_model_that_does_not_fit_is_loaded_again_with_less_memory(tmp_path: Path) -> None:
    code, records, attempts = _render(tmp_path, "loading-once")
    assert code == 0
    assert attempts == [1, 1, 1]
    note = "sparing, after running out of memory while loading"
    assert [record["notes"]["memory"] for record in records] == [note] * 3


def test_a_model_that_never_fits_is_said_once_and_no_case_is_blamed(tmp_path: Path) -> None:
    env = install_plugin(tmp_path, _PLUGIN, "[refeval.generators]\nhungry = plugin:Hungry\n")
    suite, run = write_suite(tmp_path / "suite.json", CASES), tmp_path / "run"
    model = ("--model", "hungry:loading-without-preset")
    done = refeval("render", *model, "--suite", suite, *SMALL_CLIP, "--out", run, env=env)
    assert done.returncode == 2
    assert "out of memory while loading" in done.stderr and "the weights do not fit" in done.stderr
    assert not list((run / "videos").glob("*.json"))
