"""G7, G14: Ctrl-C, SIGTERM, Slurm's SIGUSR1 and a full disk end a run in order; it goes on afterwards."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.guarantees.command import SMALL, refeval, results, start


def _wait_for_a_clip(run: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not list(run.glob("videos/*.json")):
        assert process.poll() is None, "the run ended before it could be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 143)],
    ids=lambda value: str(value),
)
def test_a_signal_ends_a_run_in_order(number: signal.Signals, code: int, tmp_path: Path) -> None:
    run = tmp_path / "run"
    # The suite's own size, so that there is time to interrupt.
    command = ("run", "--model", "copy-paste", "--suite", "sprites", "--out", run)
    process = start(*command)
    _wait_for_a_clip(run, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "nothing recorded is lost" in err
    assert f"refeval run --model copy-paste --suite sprites --out {run}" in " ".join(err.split())
    assert not list((run / "leases").iterdir())
    assert not list(run.rglob("*.tmp"))
    kept = results(run)
    assert refeval(*command).returncode == 0
    after = results(run)
    assert kept.items() <= after.items()


def test_a_full_disk_says_so_and_loses_nothing(tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = ("--cases", "singleobj_1")
    assert refeval("run", *SMALL, *first, "--out", run).returncode == 0
    kept = results(run)
    process = start("run", *SMALL, "--out", run, limit_bytes=2048)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 5, err
    assert "no space to write" in err
    clips = {name: content for name, content in kept.items() if not name.startswith("reports/")}
    assert clips.items() <= results(run).items()
    assert refeval("run", *SMALL, "--out", run).returncode == 0
