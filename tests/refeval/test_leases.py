"""Leases: one owner at a time, a dead one is taken over, a living one never."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from refeval import leases
from refeval.leases import LeaseBook

_CONTENDER = """
import sys, time
from pathlib import Path
from refeval.leases import LeaseBook
folder = Path(sys.argv[1])
left = [f"task.{i}" for i in range(30)]
while left:
    waiting = []
    for task in left:
        # A book of its own each time: a new observer, as another process would be.
        with LeaseBook(folder / "leases").hold(task) as ours:
            done = folder / f"{task}.done"
            if not ours:
                waiting.append(task)
            elif not done.exists():
                with (folder / "executed").open("a") as log:
                    log.write(task + "\\n")
                time.sleep(0.002)
                done.touch()
    left = waiting
"""


def test_contending_processes_execute_each_task_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _CONTENDER, str(tmp_path)]
    contenders = [subprocess.Popen(command) for _ in range(4)]
    assert [contender.wait(120) for contender in contenders] == [0] * 4
    executed = Counter((tmp_path / "executed").read_text().split())
    assert set(executed.values()) == {1}
    assert len(executed) == 30
    assert not list((tmp_path / "leases").iterdir())


def test_a_held_task_is_refused_and_freed(tmp_path: Path) -> None:
    first, second = LeaseBook(tmp_path), LeaseBook(tmp_path)
    with first.hold("a.1") as ours, second.hold("a.1") as theirs, second.hold("a") as other:
        assert (ours, theirs, other) == (True, False, True)
    with second.hold("a.1") as theirs:
        assert theirs


def test_a_lease_is_freed_when_the_work_fails(tmp_path: Path) -> None:
    book = LeaseBook(tmp_path)
    with pytest.raises(RuntimeError), book.hold("a"):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


_OWNER = """
import sys, time
from pathlib import Path
from refeval.leases import LeaseBook
with LeaseBook(Path(sys.argv[1])).hold("a") as ours:
    print(ours, flush=True)
    time.sleep(600)
"""


def test_a_killed_owner_is_taken_over_at_once(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", _OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout
    assert owner.stdout.readline() == "True\n"
    book = LeaseBook(tmp_path)
    with book.hold("a") as ours:
        assert not ours
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    with book.hold("a") as ours:
        assert ours
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.0", "a.1"]
    assert not list(tmp_path.iterdir())


def test_an_owner_elsewhere_is_dead_after_silence_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(leases.time, "monotonic", lambda: clock[0])
    claim = tmp_path / "a.0"
    claim.write_text(json.dumps({"host": "elsewhere", "boot": "b", "namespace": "n", "pid": 1, "started": "1"}))
    book = LeaseBook(tmp_path)

    def ours() -> bool:
        with book.hold("a") as mine:
            return mine

    assert not ours()
    clock[0] += 80
    os.utime(claim, ns=(1, 1))  # it beats
    assert not ours()
    clock[0] += 80
    assert not ours()
    clock[0] += 20
    assert ours()


def test_a_held_lease_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_HEARTBEAT_S", 0.02)
    with LeaseBook(tmp_path).hold("a"):
        os.utime(tmp_path / "a.0", ns=(1, 1))
        deadline = time.monotonic() + 10
        while (tmp_path / "a.0").stat().st_mtime_ns == 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_claim_made_at_the_same_moment_is_seen_and_given_way_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rival = {"host": "elsewhere", "boot": "b", "namespace": "n", "pid": 1, "started": "1"}
    book = LeaseBook(tmp_path)
    make = LeaseBook._make

    def make_beside_a_rival(self: LeaseBook, path: Path) -> bool:
        # The dead claim a.0 was swept between our look and our claim, and another process took the name.
        (tmp_path / "a.7").write_text(json.dumps(rival))
        return make(self, path)

    monkeypatch.setattr(LeaseBook, "_make", make_beside_a_rival)
    with book.hold("a") as ours:
        assert not ours
    assert [path.name for path in tmp_path.iterdir()] == ["a.7"]


def test_sweeping_takes_the_dead_only(tmp_path: Path) -> None:
    book = LeaseBook(tmp_path)
    dead = {"host": "h", "boot": "b", "namespace": "n", "pid": 1, "started": "1"}
    (tmp_path / "elsewhere.0").write_text(json.dumps(dead))
    with book.hold("mine"):
        here = json.loads((tmp_path / "mine.0").read_text())
        (tmp_path / "gone.0").write_text(json.dumps({**here, "token": "x", "started": "1"}))
        book.sweep()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere.0", "mine.0"]


def test_a_process_number_used_again_is_not_the_owner(tmp_path: Path) -> None:
    book = LeaseBook(tmp_path)
    with book.hold("a"):
        claim = json.loads((tmp_path / "a.0").read_text())
    claim["started"] = "1"
    claim["token"] = "of another process"
    (tmp_path / "b.0").write_text(json.dumps(claim))
    with book.hold("b") as ours:
        assert ours
