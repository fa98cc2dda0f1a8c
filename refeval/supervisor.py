"""Starts workers on an order, passes on what they tell, and outlives whatever kills them.

A worker that dies (a decoder that crashes, the out-of-memory killer) is started again; a task that has killed
two workers is recorded as failed, and the run goes on. A worker has two clips in flight, so one that follows a dead
one has only one at a time: what kills it is then certain. A supervisor that dies takes its workers with it.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from refeval.errors import RefevalError
from refeval.gpus import VISIBLE
from refeval.records import RenderRecord, RenderStatus, ScoreRecord, ScoreStatus
from refeval.runs import Run
from refeval.signals import raise_if_stopped
from refeval.timings import note_timing
from refeval.work import Event, Order, Phase
from refeval.worker import log_path

_DEATHS_ALLOWED = 2
_GRACE_S = 30.0
# What the out-of-memory killer leaves: the signal, or the exit code that a shell or a container makes of it.
_KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
# By default the C library gives each large buffer of a frame back to the system and fetches it anew.
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}


@dataclass
class Outcome:
    """How an order ended.

    Attributes:
        statuses: phase -> (case id -> status by metric id, or by ``render``).
        unavailable: metrics that cannot run here, with what mends it.
    """

    statuses: dict[Phase, dict[str, dict[str, str]]] = field(
        default_factory=lambda: {Phase.RENDER: {}, Phase.SCORE: {}}
    )
    unavailable: dict[str, RefevalError] = field(default_factory=dict)

    def add(self, other: Outcome) -> None:
        """Take in how the next order of the same command ended."""
        for phase, cases in other.statuses.items():
            for case_id, statuses in cases.items():
                self.statuses[phase].setdefault(case_id, {}).update(statuses)
        self.unavailable.update(other.unavailable)


@dataclass
class _Worker:
    index: int
    order: Order
    process: subprocess.Popen[bytes]
    events: int
    heard: bytes = b""
    busy: dict[tuple[Phase, str], Event] = field(default_factory=dict)


class Supervisor:
    """Runs one order with a number of worker processes.

    Args:
        order: the work.
        workers: how many processes share it.
        gpus: what ``CUDA_VISIBLE_DEVICES`` is to be for each of them; none: as it is.
        on_event: called with every event, for progress.
    """

    def __init__(
        self, order: Order, *, workers: int = 1, gpus: Sequence[str] = (), on_event: Callable[[Event], None]
    ) -> None:
        self._order = order
        self._count = workers
        self._gpus = gpus
        self._on_event = on_event
        self._run = Run(order.run)
        self._deaths: Counter[tuple[Phase, str]] = Counter()
        self._idle_deaths = 0
        self._outcome = Outcome()
        self._selector = selectors.DefaultSelector()
        self._workers: list[_Worker] = []

    def run(self) -> Outcome:
        """Run to the end.

        Raises:
            RefevalError: a worker met something that stops all of them.
            Stopped: by a signal; the workers have ended in order.
        """
        try:
            for index in range(self._count):
                self._start(index, self._order)
            while self._workers:
                raise_if_stopped()
                for key, _ in self._selector.select():
                    self._hear(key.data)
        finally:
            self._stop_all()
        return self._outcome

    def _start(self, index: int, order: Order) -> None:
        reading, writing = os.pipe()
        log = log_path(order.run, index)
        gpus = {VISIBLE: self._gpus[index]} if self._gpus else {}
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "refeval.worker", str(writing)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=[writing],
                env={**_ALLOCATOR, **os.environ, **gpus},
            )
        os.close(writing)
        worker = _Worker(index=index, order=order, process=process, events=reading)
        self._workers.append(worker)
        self._selector.register(worker.events, selectors.EVENT_READ, worker)
        if process.stdin is None:
            raise AssertionError("the worker was started with a pipe")
        process.stdin.write(order.model_dump_json().encode() + b"\n")
        process.stdin.flush()

    def _hear(self, worker: _Worker) -> None:
        heard = os.read(worker.events, 1 << 16)
        if not heard:
            self._bury(worker)
            return
        *lines, worker.heard = (worker.heard + heard).split(b"\n")
        for line in lines:
            self._take(worker, Event.model_validate_json(line))

    def _take(self, worker: _Worker, event: Event) -> None:
        if event.kind == "start":
            worker.busy[_task(event)] = event
        elif event.kind == "end":
            self._note_end(worker, event)
        elif event.problem and event.kind == "unavailable" and event.metric:
            self._outcome.unavailable[event.metric] = event.problem.error()
        elif event.problem:
            raise event.problem.error()
        self._on_event(event)

    def _note_end(self, worker: _Worker, event: Event) -> None:
        phase, case_id = _task(event)
        worker.busy.pop((phase, case_id), None)
        self._outcome.statuses[phase][case_id] = event.statuses
        if event.executed:
            self._idle_deaths = 0
            note_timing(self._run, event)

    def _bury(self, worker: _Worker) -> None:
        # Wait first: closing its standard input would tell an ending worker to stop.
        code = worker.process.wait()
        self._forget(worker)
        if code == 0:
            return
        self._idle_deaths += not worker.busy
        if self._idle_deaths >= _DEATHS_ALLOWED:
            raise RefevalError(
                f"a worker process ended unexpectedly ({_cause(code)})",
                details=(("log", str(log_path(self._order.run, worker.index))),),
                cure="look at the log; the same command takes up where it stopped",
            )
        self._deaths.update(worker.busy.keys())
        if len(worker.busy) == 1:
            # With two in flight it may have been the other one; alone, it will not be.
            [task] = worker.busy.values()
            self._blame(task, code)
        starved = code in _KILLED and any(phase is Phase.RENDER for phase, _ in worker.busy)
        changes = {"overlap": False, "spare_memory": worker.order.spare_memory or starved}
        self._start(worker.index, worker.order.model_copy(update=changes))

    def _blame(self, task: Event, code: int) -> None:
        phase, case_id = _task(task)
        deaths = self._deaths[phase, case_id]
        if deaths < _DEATHS_ALLOWED:
            return
        reason = f"the worker process died {deaths} times on it ({_cause(code)})"
        if phase is Phase.RENDER:
            key = task.keys["render"]
            # It may have died between the record and its end.
            if self._run.finished_render(case_id, key) is None:
                self._run.write_render(self._failed_clip(case_id, key, reason), None)
            return
        clip = self._run.render_record(case_id)
        for metric_id, key in task.keys.items():
            record = self._run.score_record(metric_id, case_id)
            if record is None or record.task_key != key:
                failed = ScoreRecord(
                    case=case_id,
                    metric=metric_id,
                    status=ScoreStatus.FAILED,
                    reason=reason,
                    task_key=key,
                    clip_sha256=clip.sha256 if clip else None,
                )
                self._run.write_score(failed)

    def _failed_clip(self, case_id: str, key: str, reason: str) -> RenderRecord:
        return RenderRecord(
            case=case_id,
            status=RenderStatus.FAILED,
            reason=reason,
            task_key=key,
            seed=self._run.manifest.seed,
            settings=self._run.manifest.settings,
            seconds=0.0,
            peak_memory_mb=0.0,
        )

    def _forget(self, worker: _Worker) -> None:
        self._selector.unregister(worker.events)
        os.close(worker.events)
        if worker.process.stdin:
            worker.process.stdin.close()
        self._workers.remove(worker)

    def _stop_all(self) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in list(self._workers):
            try:
                worker.process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            self._forget(worker)


def _task(event: Event) -> tuple[Phase, str]:
    if event.phase is None or event.case is None:
        raise AssertionError("a task has a phase and a case")
    return event.phase, event.case


def _cause(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
