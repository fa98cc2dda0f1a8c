"""Live progress of a command: how many tasks, how fast, how long still. Goes to standard error."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from refeval.records import FINE_STATUSES
from refeval.work import Event, Order, Phase


class ProgressView:
    """Shows the events of a command's orders; a context manager.

    Args:
        orders: in turn; a bar for each.
        console: where to draw.
    """

    def __init__(self, orders: Sequence[Order], console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<9}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[now]}"),
            console=console,
        )
        self._seen: set[tuple[int, str | None]] = set()
        for title, order in zip(_titles(orders), orders, strict=True):
            self._progress.add_task(title, total=len(order.cases), now="", bad=0)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def see(self, order: int, event: Event) -> None:
        """Take the next event of the order of this number."""
        if event.phase is None:
            return
        task = self._progress.task_ids[order]
        if event.kind == "start":
            self._progress.update(task, now=event.case or "")
        elif event.kind == "end" and (order, event.case) not in self._seen:
            # Every worker tells of every case, be it only that another one had recorded it.
            self._seen.add((order, event.case))
            self._progress.advance(task)
            self._progress.update(task, now=self._remark(task, event))

    def _remark(self, task: TaskID, event: Event) -> str:
        fields = self._progress.tasks[task].fields
        fields["bad"] += any(status not in FINE_STATUSES for status in event.statuses.values())
        return f"{fields['bad']} not ok" if fields["bad"] else ""


def _titles(orders: Sequence[Order]) -> list[str]:
    passes = [order for order in orders if order.phase is Phase.SCORE]
    return [
        f"score {passes.index(order) + 1}/{len(passes)}" if order in passes and len(passes) > 1 else order.phase.value
        for order in orders
    ]


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("--/min")
        return Text(f"{speed:.1f}/s" if speed >= 1 else f"{speed * 60:.1f}/min")
