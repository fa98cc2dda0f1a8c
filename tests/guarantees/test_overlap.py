"""A clip is checked, encoded and written while the next one is rendered; what goes wrong there is not lost."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.guarantees.command import executed_tasks, refeval, start, write_suite
from tests.guarantees.small_generator import SMALL_CLIP, wait_for
from tests.guarantees.test_g3_pipeline import install_plugin

CASES = ("singleobj_1", "singleobj_2", "singleobj_3")

# The argument is a folder in which the generator and the test leave each other signs.
_PLUGIN = """
import os, time
from pathlib import Path
from threading import Event
from refeval.errors import MissingPrerequisite
from tests.guarantees.small_generator import SmallGenerator, clip_after, moving_clip, wait_for

class Overlapping(SmallGenerator):
    def __init__(self, argument):
        super().__init__(argument)
        self.signs = Path(argument)
        self.calls = []

    def foresee(self, cases):
        self.calls.append([case.id for case in cases])

    def prepare(self, *_):
        self.calls.append("prepare")

    def close(self):
        (self.signs / "closed").touch()

    def render(self, job):
        (self.signs / f"{job.case.id}.rendering").touch()
        return clip_after(job.clip, lambda: None)

    def must(self, name):
        if not wait_for(self.signs / name):
            raise TimeoutError(name)

class Chain(Overlapping):
    # Every clip but the last one is encoded only once the next one is being rendered.
    def render(self, job):
        super().render(job)
        job.notes["calls"] = self.calls
        later = {"singleobj_1": "singleobj_2", "singleobj_2": "singleobj_3"}.get(job.case.id)
        return clip_after(job.clip, lambda: later is None or self.must(f"{later}.rendering"))

class Endless(Overlapping):
    # The first clip is encoded when the test says so, and the second one is never done.
    def render(self, job):
        super().render(job)
        if job.case.id != "singleobj_1":
            time.sleep(60)
        def before():
            (self.signs / "encoding").touch()
            self.must("go")
        return clip_after(job.clip, before)

class Broken(Overlapping):
    def render(self, job):
        super().render(job)
        if job.case.id == "singleobj_1":
            job.notes["odd"] = object()
            return moving_clip(job.clip)
        def before():
            raise ValueError("no frames") if job.case.id == "singleobj_2" else MissingPrerequisite("no codec", cure="x")
        return clip_after(job.clip, before)

class Deadly(Overlapping):
    # The second clip kills its process, and does so while the first one is encoded, if the two overlap.
    def __init__(self, argument):
        super().__init__(argument)
        self.encoding, self.second = Event(), Event()

    def render(self, job):
        super().render(job)
        def before():
            self.encoding.set()
            if self.second.wait(3):
                time.sleep(60)
        if job.case.id == "singleobj_2":
            self.second.set()
            self.encoding.wait(20)
            os.abort()
        return clip_after(job.clip, before if job.case.id == "singleobj_1" else lambda: None)
"""
_ENTRY_POINTS = """
[refeval.generators]
chain = plugin:Chain
endless = plugin:Endless
broken = plugin:Broken
deadly = plugin:Deadly
"""


class _Setting:
    """A plug-in, a suite, and the command that renders it."""

    def __init__(self, folder: Path) -> None:
        self.env = install_plugin(folder, _PLUGIN, _ENTRY_POINTS)
        self.suite = write_suite(folder / "suite.json", CASES)
        self.run = folder / "run"
        self.signs = folder / "signs"
        self.signs.mkdir()

    def command(self, name: str) -> tuple[str | Path, ...]:
        model = ("--model", f"{name}:{self.signs}")
        return ("render", *model, "--suite", self.suite, *SMALL_CLIP, "--out", self.run)

    def record(self, case: str) -> dict[str, Any]:
        record: dict[str, Any] = json.loads((self.run / f"videos/{case}.json").read_text())
        return record


@pytest.fixture
def setting(tmp_path: Path) -> _Setting:
    return _Setting(tmp_path)


def test_a_clip_is_encoded_while_the_next_is_rendered(setting: _Setting) -> None:
    done = refeval(*setting.command("chain"), env=setting.env)
    assert done.returncode == 0, [setting.record(case) for case in CASES]
    assert executed_tasks(setting.run) == 3
    assert not list((setting.run / "leases").iterdir())
    assert not list((setting.run / "cache").iterdir())
    assert (setting.signs / "closed").exists()
    calls = setting.record("singleobj_3")["notes"]["calls"]
    assert calls == [list(CASES), "prepare", list(CASES[1:]), list(CASES[2:])]


def test_what_is_recorded_is_not_foreseen_first(setting: _Setting) -> None:
    command = setting.command("chain")
    (setting.signs / "singleobj_2.rendering").touch()
    assert refeval(*command, "--limit", "1", env=setting.env).returncode == 0
    assert refeval(*command, env=setting.env).returncode == 0
    assert setting.record("singleobj_3")["notes"]["calls"] == [list(CASES[1:]), "prepare", list(CASES[2:])]


@pytest.mark.parametrize("cases", [1, 2])
def test_a_signal_waits_for_the_clip_in_flight(cases: int, setting: _Setting) -> None:
    process = start(*setting.command("endless"), "--limit", str(cases), env=setting.env)
    assert wait_for(setting.signs / "encoding", 60)
    assert cases == 1 or wait_for(setting.signs / "singleobj_2.rendering")
    process.send_signal(signal.SIGTERM)
    # Long enough for a worker that does not wait to be gone.
    time.sleep(0.5)
    assert process.poll() is None
    assert [lease.name for lease in (setting.run / "leases").iterdir()] == ["render.singleobj_1.0"]
    (setting.signs / "go").touch()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert setting.record("singleobj_1")["status"] == "rendered"
    assert not (setting.run / "videos/singleobj_2.json").exists()
    assert not list((setting.run / "leases").iterdir())
    assert not list((setting.run / "cache").iterdir())
    assert (setting.signs / "closed").exists()


def test_what_fails_behind_is_recorded_and_what_must_stop_the_run_stops_it(setting: _Setting) -> None:
    done = refeval(*setting.command("broken"), env=setting.env)
    assert done.returncode == 2
    assert "no codec" in done.stderr
    assert setting.record("singleobj_1")["reason"].startswith("the generator's notes are not JSON")
    assert setting.record("singleobj_2")["reason"] == "ValueError: no frames"
    assert not (setting.run / "videos/singleobj_3.json").exists()
    assert not list((setting.run / "leases").iterdir())
    assert (setting.signs / "closed").exists()


def test_a_clip_in_flight_is_not_blamed_for_the_death_of_its_neighbour(setting: _Setting) -> None:
    done = refeval(*setting.command("deadly"), env=setting.env)
    assert done.returncode == 3, done.stderr
    assert [setting.record(case)["status"] for case in CASES] == ["rendered", "failed", "rendered"]
    assert "SIGABRT" in setting.record("singleobj_2")["reason"]
