"""Commands side by side: in order, at most so many at once, and none outlives the command that started it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from refeval.side_by_side import Ended, Job, run_jobs


def job(folder: Path, name: str, *arguments: str) -> Job:
    return Job(name=name, arguments=arguments, log=folder / f"{name}.log")


def test_a_command_that_fails_stops_no_other_and_says_why(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path, "good", "--version"),
        job(tmp_path, "bad", "total", "nowhere"),
        job(tmp_path, "better", "doctor"),
    ]
    (tmp_path / "bad.log").write_text("refeval: of yesterday\n")
    events: list[str] = []

    def ended(end: Ended) -> None:
        events.append(f"end {end.job.name}")

    for slots, expected in (
        (1, ["start good", "end good", "start bad", "end bad", "start better", "end better"]),
        (3, ["start good", "start bad", "start better"]),
    ):
        events.clear()
        found = run_jobs(jobs, [{}] * slots, on_start=lambda one: events.append(f"start {one.name}"), on_end=ended)
        assert events[: len(expected)] == expected
        assert [(end.job.name, end.code) for end in found] == [("good", 0), ("bad", 2), ("better", 0)]
        assert found[1].reason.startswith("nowhere is not a folder; cure") and "yesterday" not in found[1].reason
        assert found[0].reason == ""
    assert (tmp_path / "bad.log").read_text().startswith("refeval: of yesterday\n")


def test_the_environment_of_a_slot_is_that_of_its_command(tmp_path: Path) -> None:
    shown = job(tmp_path, "shown", "cases", "--suite", "opens2v-open")
    [end] = run_jobs([shown], [{"REFEVAL_DATA": "/nowhere/at/all"}], on_start=lambda _: None, on_end=lambda _: None)
    assert "/nowhere/at/all" in end.reason


def test_commands_end_with_the_one_that_has_started_them(tmp_path: Path) -> None:
    """Killed so that it can tell nobody; the clips are more than can be made meanwhile."""
    arguments = (
        "run",
        "--model",
        "copy-paste",
        "--suite",
        "sprites",
        "--frames",
        "600",
        "--out",
        str(tmp_path / "run"),
    )
    script = (
        "from pathlib import Path; from refeval.side_by_side import Job, run_jobs\n"
        f"run_jobs([Job(name='long', arguments={arguments!r}, log=Path({str(tmp_path / 'long.log')!r}))], [{{}}],"
        " on_start=lambda _: None, on_end=lambda _: None)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script])
    _wait_until(lambda: list(tmp_path.glob("run/leases/render.*")))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _wait_until(lambda: "stopped by SIGTERM" in (tmp_path / "long.log").read_text())
    _wait_until(lambda: not list(tmp_path.glob("run/leases/*")))


def _wait_until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)
