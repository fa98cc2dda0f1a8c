"""Live progress of a command: how many tasks, how fast, how long still. Goes to standard error."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from refeval.records import FINE_STATUSES
from refeval.work import Event, Phase

_TITLES = {Phase.RENDER: "render", Phase.SCORE: "score"}


class ProgressView:
    """Shows the events of a supervisor; a context manager.

    Args:
        phases: in order.
        cases: how many tasks each phase has.
        console: where to draw.
    """

    def __init__(self, phases: list[Phase], cases: int, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<8}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[now]}"),
            console=console,
        )
        self._seen: set[tuple[Phase, str | None]] = set()
        self._tasks = {phase: self._progress.add_task(_TITLES[phase], total=cases, now="", bad=0) for phase in phases}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def see(self, event: Event) -> None:
        """Take the next event."""
        if event.phase is None:
            return
        task = self._tasks[event.phase]
        if event.kind == "start":
            self._progress.update(task, now=event.case or "")
        elif event.kind == "end" and (event.phase, event.case) not in self._seen:
            # Every worker tells of every case, be it only that another one had recorded it.
            self._seen.add((event.phase, event.case))
            self._progress.advance(task)
            self._progress.update(task, now=self._remark(task, event))

    def _remark(self, task: int, event: Event) -> str:
        fields = self._progress.tasks[task].fields
        fields["bad"] += any(status not in FINE_STATUSES for status in event.statuses.values())
        return f"{fields['bad']} not ok" if fields["bad"] else ""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("--/min")
        return Text(f"{speed:.1f}/s" if speed >= 1 else f"{speed * 60:.1f}/min")
