"""One process that executes the tasks of an order, sharing them with other workers through leases.

Started by :mod:`refeval.supervisor` as ``python -m refeval.worker EVENTS``: the order comes as the first line of
standard input, events go to the open file descriptor EVENTS, all else goes to the worker's log. When standard
input closes, the supervisor is gone and the worker ends in order.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from refeval.cases import Case, select_cases
from refeval.clips import Clip
from refeval.errors import ExitCode, MissingPrerequisite, RefevalError, Unavailable
from refeval.metrics.base import Metric
from refeval.records import RenderRecord
from refeval.registry import load_generator, load_metric
from refeval.rendering import RENDER, Renderer
from refeval.runs import Run
from refeval.scoring import NoClip, Scorer
from refeval.signals import (
    Stopped,
    end_with_parent,
    no_interruption,
    raise_if_stopped,
    stop_in_order,
    stop_received,
)
from refeval.work import Event, Order, Phase, Problem

_POLL_S = 0.2
# Others may hold or have done the next few cases; beyond them a look costs more than it saves.
_LOOK_AHEAD = 8

Tell = Callable[[Event], None]


def execute(order: Order, tell: Tell) -> None:
    """Execute an order and return when every one of its tasks is recorded, by this worker or another.

    Args:
        order: what to do.
        tell: takes every event.

    Raises:
        RefevalError: the worker cannot go on; what is recorded stays.
    """
    run = Run(order.run)
    cases = select_cases(run.suite(order.data), order.cases)
    tasks: _Tasks = _Rendering(run, order, tell) if order.phase is Phase.RENDER else _Scoring(run, order, tell)
    with contextlib.closing(tasks):
        _work_off(tasks, cases)


def _work_off(tasks: _Tasks, cases: list[Case]) -> None:
    waiting = cases
    while waiting:
        held = []
        for position, case in enumerate(waiting):
            raise_if_stopped()
            if not tasks.attempt(case, waiting[position:]):
                held.append(case)
        if len(held) == len(waiting):
            time.sleep(_POLL_S)
        waiting = held


class _Tasks(ABC):
    @abstractmethod
    def attempt(self, case: Case, ahead: list[Case]) -> bool:
        """Have a task recorded, now or soon; False while another worker is at it.

        Args:
            case: of the task.
            ahead: the cases that this worker looks at from now on, this one first.
        """

    def close(self) -> None:
        """End what is still under way; called once, after errors too."""


@dataclass(frozen=True, kw_only=True)
class _Behind:
    """The clip that is stored while the next one is rendered; its lease is held until then."""

    case: Case
    record: Future[RenderRecord]
    lease: ExitStack


class _Rendering(_Tasks):
    """The clips of an order: one is rendered while the one before is checked, encoded and written.

    Generator, leases, events and signals belong to the main thread.
    """

    def __init__(self, run: Run, order: Order, tell: Tell) -> None:
        if order.model is None:
            raise RefevalError("nothing says which model is to render")
        self.renderer = Renderer(run, load_generator(order.model, order.place))
        self.leases = run.leases
        self.tell = tell
        self.overlap = order.overlap
        self.spare_memory = order.spare_memory
        self.ready = False
        self.background = ThreadPoolExecutor(1)
        self.behind: _Behind | None = None

    def attempt(self, case: Case, ahead: list[Case]) -> bool:
        """Have the clip of a case rendered; the clip before it is recorded then, this one by :meth:`close`."""
        if self.behind and self.behind.record.done():
            # Others may be waiting for its lease while we wait for theirs.
            self._collect()
        key = self.renderer.key(case)
        record = self.renderer.done(case, key)
        if record is None:
            with ExitStack() as lease:
                with no_interruption():
                    ours = lease.enter_context(self.leases.hold(f"{RENDER}.{case.id}"))
                if not ours:
                    return False
                # Another worker may have finished it between our look and our lease.
                record = self.renderer.done(case, key)
                if record is None:
                    self._render(case, key, ahead, lease)
                    return True
        self._end(case, record, executed=False)
        return True

    def close(self) -> None:
        """Record the last clip and let go of the generator."""
        try:
            self._collect()
        finally:
            self.background.shutdown()
            self.renderer.generator.close()

    def _render(self, case: Case, key: str, ahead: list[Case], lease: ExitStack) -> None:
        self.tell(Event(kind="start", phase=Phase.RENDER, case=case.id, keys={RENDER: key}))
        self.renderer.generator.foresee(ahead)
        self._prepare_once()
        made = self.renderer.make(case, key)
        # A signal must not part what is made from its storing.
        with no_interruption():
            try:
                self._collect()
            finally:
                record = self.background.submit(self.renderer.finish, made)
                self.behind = _Behind(case=case, record=record, lease=lease.pop_all())
            if not self.overlap:
                self._collect()

    def _prepare_once(self) -> None:
        if self.ready:
            return
        if self.spare_memory:
            self.renderer.save_memory("after a worker was killed")
        self.renderer.prepare()
        self.ready = True

    def _collect(self) -> None:
        with no_interruption():
            behind, self.behind = self.behind, None
            if behind:
                with behind.lease:
                    self._end(behind.case, behind.record.result(), executed=True)

    def _end(self, case: Case, record: RenderRecord, *, executed: bool) -> None:
        self.tell(
            Event(
                kind="end",
                phase=Phase.RENDER,
                case=case.id,
                statuses={RENDER: record.status.value},
                executed=executed,
                seconds=record.seconds if executed else 0.0,
            )
        )


@dataclass(frozen=True, kw_only=True)
class _Claimed:
    """A case whose lease is held and whose clip is decoded, or is being decoded."""

    case: Case
    keys: Mapping[str, str]
    pending: list[str]
    lease: ExitStack
    clip: Future[Clip | NoClip | None]


class _Scoring(_Tasks):
    """The scores of an order: the clip of one case is decoded while the case before is scored.

    Metrics, leases, events and signals belong to the main thread.
    """

    def __init__(self, run: Run, order: Order, tell: Tell) -> None:
        self.tell = tell
        self.leases = run.leases
        self.ready: set[str] = set()
        self.metrics: dict[str, Metric] = {}
        for metric_id in order.metrics:
            try:
                self.metrics[metric_id] = load_metric(metric_id, order.place, tiny=order.tiny)
            except MissingPrerequisite as error:
                self._unavailable(metric_id, error)
        self.scorer = Scorer(
            run,
            self.metrics,
            decoder=order.decoder,
            accept_lifeless=order.accept_lifeless,
        )
        self.overlap = order.overlap
        self.background = ThreadPoolExecutor(1)
        self.claims: dict[str, _Claimed] = {}

    def attempt(self, case: Case, ahead: list[Case]) -> bool:
        """Have every score of a case recorded."""
        if case.id not in self.claims:
            if not self.scorer.pending(case, self.scorer.keys(case)):
                self._end(case)
                return True
            if not self._claim(case):
                return False
        claimed = self.claims[case.id]
        with claimed.lease:
            if not claimed.pending:
                self._end(case)
            else:
                started = time.monotonic()
                if self.overlap:
                    self._look_ahead(ahead[1:])
                self._score(claimed)
                self._end(case, seconds=time.monotonic() - started)
        del self.claims[case.id]
        return True

    def close(self) -> None:
        """Let go of the cases whose turn did not come or was cut short."""
        try:
            for claimed in self.claims.values():
                claimed.lease.close()
        finally:
            self.background.shutdown()

    def _look_ahead(self, cases: list[Case]) -> None:
        """Claim the next case that is free, so that its clip is decoded meanwhile."""
        # One metric alone takes its frames from the decoder as they come; there is nothing to do in advance.
        if len(self.claims) > 1 or len(self.metrics) < 2:
            return
        for case in cases[:_LOOK_AHEAD]:
            if self.scorer.pending(case, self.scorer.keys(case)) and self._claim(case):
                return

    def _claim(self, case: Case) -> bool:
        """Take the lease of a case and begin to decode its clip; False while another worker has it."""
        with ExitStack() as lease:
            with no_interruption():
                ours = lease.enter_context(self.leases.hold(f"{Phase.SCORE}.{case.id}"))
            if not ours:
                return False
            # Another worker may have finished it, or rendered a new clip, between our look and our lease.
            keys = self.scorer.keys(case)
            pending = self._prepared(self.scorer.pending(case, keys))
            if pending:
                starting = {metric_id: keys[metric_id] for metric_id in pending}
                self.tell(Event(kind="start", phase=Phase.SCORE, case=case.id, keys=starting))
            # A signal must not part a lease from the list of those that are let go of.
            with no_interruption():
                clip = self.background.submit(self.scorer.open, case, pending)
                self.claims[case.id] = _Claimed(case=case, keys=keys, pending=pending, lease=lease.pop_all(), clip=clip)
        return True

    def _score(self, claimed: _Claimed) -> None:
        clip = claimed.clip.result()
        # What was claimed while the case before was scored may have lost a metric to it.
        pending = [metric_id for metric_id in claimed.pending if metric_id in self.metrics]
        while pending:
            try:
                return self.scorer.score(claimed.case, claimed.keys, pending, clip)
            except Unavailable as error:
                del self.metrics[error.metric]
                self._unavailable(error.metric, error)
                pending = self.scorer.pending(claimed.case, claimed.keys)

    def _prepared(self, metric_ids: list[str]) -> list[str]:
        for metric_id in metric_ids:
            if metric_id not in self.ready:
                try:
                    self._prepare(metric_id)
                except (MissingPrerequisite, Unavailable) as error:
                    del self.metrics[metric_id]
                    self._unavailable(metric_id, error)
        return [metric_id for metric_id in metric_ids if metric_id in self.ready]

    def _prepare(self, metric_id: str) -> None:
        metric = self.metrics[metric_id]
        metric.prepare()
        ours = False
        while not ours:
            raise_if_stopped()
            with self.leases.hold(f"begin.{metric_id}") as ours:
                if ours:
                    metric.begin()
            if not ours:
                time.sleep(_POLL_S)
        self.ready.add(metric_id)

    def _unavailable(self, metric_id: str, error: RefevalError) -> None:
        self.tell(Event(kind="unavailable", metric=metric_id, problem=Problem.of(error)))

    def _end(self, case: Case, *, seconds: float | None = None) -> None:
        self.tell(
            Event(
                kind="end",
                phase=Phase.SCORE,
                case=case.id,
                statuses=self.scorer.statuses(case),
                executed=seconds is not None,
                seconds=seconds or 0.0,
            )
        )


def main() -> int:
    """Run the worker process; returns its exit code."""
    stop_in_order()
    # A terminal sends Ctrl-C to the whole group; the supervisor passes it on as SIGTERM, once.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    events = os.fdopen(int(sys.argv[1]), "w", buffering=1)

    def tell(event: Event) -> None:
        events.write(event.model_dump_json() + "\n")

    try:
        order = Order.model_validate_json(sys.stdin.readline())
        end_with_parent()
        execute(order, tell)
    except Stopped as stop:
        return stop.exit_code
    except RefevalError as error:
        tell(Event(kind="fatal", problem=Problem.of(error)))
        return error.exit_code
    except BrokenPipeError:
        return ExitCode.TERMINATED
    except Exception:
        received = stop_received()
        if received is None:
            raise
        return received.exit_code
    finally:
        # What is left is the interpreter's own end, which a signal would only litter with a traceback.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return ExitCode.OK


def log_path(folder: Path, index: int) -> Path:
    """Where a worker's own output goes."""
    return folder / "logs" / f"worker-{index}.log"


if __name__ == "__main__":
    sys.exit(main())
