"""Several refeval commands at once, each a process of its own; a command that fails stops no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from refeval.errors import ExitCode
from refeval.signals import raise_if_stopped

_POLL_S = 0.2
# A training that is told to stop ends its iteration and writes a checkpoint.
_GRACE_S = 900.0
_LAST_WORD = "refeval: "


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command.

    Attributes:
        name: for people.
        arguments: after ``refeval``.
        log: takes what it prints, after what is there.
    """

    name: str
    arguments: tuple[str, ...]
    log: Path


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended.

    Attributes:
        job: the command.
        code: its exit code; below 0: the signal that killed it.
        reason: its last word where it failed, in one line; else empty.
        seconds: that it took.
    """

    job: Job
    code: int
    reason: str
    seconds: float


@dataclass
class _Running:
    job: Job
    slot: Mapping[str, str]
    process: subprocess.Popen[bytes]
    began: float
    log_from: int


def run_jobs(
    jobs: Sequence[Job],
    slots: Sequence[Mapping[str, str]],
    *,
    on_start: Callable[[Job], None],
    on_end: Callable[[Ended], None],
) -> list[Ended]:
    """Run commands, as many at once as there are slots, and wait for all of them.

    The commands end with this process, however it ends.

    Args:
        jobs: in the order in which they start.
        slots: variables of the environment for whoever works in a slot, such as its GPU.
        on_start: told of every command that starts.
        on_end: told of every command that has ended.

    Returns:
        How they ended, in the order of the jobs.

    Raises:
        Stopped: by a signal; the commands have been told, and have ended.
    """
    waiting, free = list(jobs), list(slots)
    running: list[_Running] = []
    ended: dict[Job, Ended] = {}
    try:
        while waiting or running:
            raise_if_stopped()
            while waiting and free:
                running.append(_start(waiting.pop(0), free.pop(0)))
                on_start(running[-1].job)
            for one in [one for one in running if one.process.poll() is not None]:
                running.remove(one)
                free.append(one.slot)
                ended[one.job] = _ended(one)
                on_end(ended[one.job])
            time.sleep(_POLL_S if running else 0)
    finally:
        _end(running)
    return [ended[job] for job in jobs]


def _start(job: Job, slot: Mapping[str, str]) -> _Running:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "refeval.commands.child", *job.arguments],
            env={**os.environ, **slot},
            # It closes when this process is gone, which the child takes for a signal.
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
        )
        return _Running(job=job, slot=slot, process=process, began=time.monotonic(), log_from=log.tell())


def _ended(one: _Running) -> Ended:
    code = one.process.wait()
    if one.process.stdin:
        one.process.stdin.close()
    reason = "" if code == ExitCode.OK else _reason(one, code)
    return Ended(job=one.job, code=code, reason=reason, seconds=time.monotonic() - one.began)


def _reason(one: _Running, code: int) -> str:
    """The last word of a command, or what killed it."""
    with one.job.log.open("rb") as log:
        log.seek(one.log_from)
        lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    words = [i for i, line in enumerate(lines) if line.startswith(_LAST_WORD)]
    if words:
        return "; ".join(lines[words[-1] :]).removeprefix(_LAST_WORD)
    return lines[-1] if lines else f"exit code {code}"


def _end(running: Sequence[_Running]) -> None:
    for one in running:
        one.process.terminate()
    deadline = time.monotonic() + _GRACE_S
    for one in running:
        try:
            one.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            one.process.kill()
            one.process.wait()
