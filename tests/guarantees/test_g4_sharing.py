"""G4: several processes on one run folder share the work; a dead owner's task is taken over."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

from tests.guarantees.command import CASES, SMALL, executed_tasks, refeval, results, start


def _whole_or_absent(run: Path) -> None:
    for path in [*run.glob("scores/*/*.json"), *run.glob("videos/*.json"), *run.glob("manifest.json")]:
        json.loads(path.read_bytes())


def test_four_processes_execute_every_task_once(tmp_path: Path) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    refeval("run", *SMALL, "--out", alone)
    processes = [start("run", *SMALL, "--out", shared) for _ in range(4)]
    while any(process.poll() is None for process in processes):
        _whole_or_absent(shared)
        try:
            processes[0].wait(0.01)
        except subprocess.TimeoutExpired:
            continue
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0, 0], errors
    assert executed_tasks(shared) == 2 * len(CASES)
    assert results(shared) == results(alone)


def test_of_two_different_runs_in_one_new_folder_one_is_refused(tmp_path: Path) -> None:
    for attempt in range(3):
        run = tmp_path / f"run{attempt}"
        processes = [start("run", *SMALL, "--limit", "1", "--out", run, "--seed", seed) for seed in "01"]
        errors = [process.communicate()[1] for process in processes]
        codes = sorted(process.returncode for process in processes)
        assert codes == [0, 2], errors
        winner = [process.returncode for process in processes].index(0)
        assert json.loads((run / "manifest.json").read_text())["seed"] == winner


def test_workers_end_with_their_supervisor(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start("run", "--model", "copy-paste", "--suite", "sprites", "--out", run)
    while not list(run.glob("leases/*.0")):
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while True:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        assert time.monotonic() < deadline, "a worker lives on"
        time.sleep(0.05)
    assert not list((run / "leases").iterdir()), "it ended in order"
    process.communicate()


def test_one_command_with_several_workers(tmp_path: Path) -> None:
    done = refeval("run", *SMALL, "--out", tmp_path / "run", "--workers", "3")
    assert done.returncode == 0, done.stderr
    assert executed_tasks(tmp_path / "run") == 2 * len(CASES)


def test_a_dead_owner_is_taken_over(tmp_path: Path) -> None:
    run = tmp_path / "run"
    refeval("run", *SMALL, "--out", run, env={"REFEVAL_FAULT": "lease-taken:2"})
    # The first clip may still be on its way to the disk, its lease held.
    assert {path.suffix for path in (run / "leases").iterdir()} == {".0"}
    assert refeval("run", *SMALL, "--out", run).returncode == 0
    assert not list((run / "leases").iterdir())


def test_shards_together_are_the_whole(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for shard in ("1/2", "2/2"):
        refeval("run", *SMALL, "--out", run, "--shard", shard)
        if shard == "1/2":
            assert len(list((run / "videos").glob("*.mp4"))) == len(CASES) // 2
    assert len(list((run / "videos").glob("*.mp4"))) == len(CASES)
