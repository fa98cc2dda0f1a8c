"""G1, G2: ``kill -9`` at any instant loses nothing that is recorded; the same command ends with the same bytes."""

from __future__ import annotations

import contextlib
import random
import subprocess
import time
from pathlib import Path

import pytest

from refeval.faults import FAULT_POINTS
from tests.guarantees.command import CASES, SMALL, executed_tasks, kill_group, refeval, results, start

RANDOM_KILLS = 50


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    done = refeval("run", *SMALL, "--out", run)
    assert done.returncode == 0, done.stderr
    assert executed_tasks(run) == 2 * len(CASES)
    return results(run)


def test_an_uninterrupted_run_holds_every_result(uninterrupted: dict[str, bytes]) -> None:
    for case in CASES:
        assert f"videos/{case}.mp4" in uninterrupted
        assert f"scores/motion_amplitude/{case}.json" in uninterrupted
    assert "reports/index.html" in uninterrupted


@pytest.mark.parametrize("point", FAULT_POINTS)
def test_killed_at_a_fault_point(point: str, tmp_path: Path, uninterrupted: dict[str, bytes]) -> None:
    run = tmp_path / "run"
    for visit in (1, 3):
        killed = refeval("run", *SMALL, "--out", run, env={"REFEVAL_FAULT": f"{point}:{visit}"})
        assert killed.returncode == -9, f"the fault point was not reached: {killed.stderr}"
        checked = refeval("check", run)
        assert checked.returncode in (2, 3), f"a kill must never leave damage behind: {checked.stdout}{checked.stderr}"
    done = refeval("run", *SMALL, "--out", run)
    assert done.returncode == 0, done.stderr
    assert results(run) == uninterrupted
    assert not list((run / "leases").glob("*"))


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_times(seed: int, tmp_path: Path, uninterrupted: dict[str, bytes]) -> None:
    dice = random.Random(seed)
    kills = rounds = 0
    longest = 2.0
    while kills < RANDOM_KILLS // 2:
        run = tmp_path / f"run{rounds}"
        rounds += 1
        ended = False
        while not ended:
            started = time.monotonic()
            process = start("run", *SMALL, "--out", run)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(dice.uniform(0.2, longest))
            ended = process.poll() is not None
            if not ended:
                kill_group(process)
                kills += 1
        _, err = process.communicate()
        assert process.returncode == 0, err
        longest = time.monotonic() - started
        assert results(run) == uninterrupted


@pytest.mark.parametrize(
    ("damaged", "cut"),
    [
        ("scores/motion_amplitude/faceobj_1.json", 40),
        ("videos/faceobj_1.json", 40),
        ("videos/faceobj_1.mp4", 500),
        ("scores/motion_amplitude/faceobj_1.json", 0),
    ],
)
def test_a_file_cut_short_is_found_and_mended(
    damaged: str, cut: int, tmp_path: Path, uninterrupted: dict[str, bytes]
) -> None:
    run = tmp_path / "run"
    refeval("run", *SMALL, "--out", run)
    (run / damaged).write_bytes((run / damaged).read_bytes()[:cut])
    checked = refeval("check", run)
    assert checked.returncode == 4
    assert "faceobj_1" in checked.stdout
    assert refeval("run", *SMALL, "--out", run).returncode == 0
    assert results(run) == uninterrupted


def test_a_changed_digit_in_a_record_is_found(tmp_path: Path) -> None:
    run = tmp_path / "run"
    refeval("run", *SMALL, "--out", run)
    record = run / "scores/motion_amplitude/faceobj_1.json"
    record.write_text(record.read_text().replace('"frames_used": 6', '"frames_used": 7'))
    checked = refeval("check", run)
    assert checked.returncode == 4
    assert "does not match its sha256" in checked.stdout
