"""Live progress of a training: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import statistics
from collections import deque
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from refeval.training.observation import Observer, StepReport

_WINDOW = 50


class ProgressDisplay(Observer):
    """Draws on a console; to be closed.

    Args:
        console: where to draw.
        iterations: of the training.
        every: seconds of training between lines where the console is no terminal.
    """

    def __init__(self, console: Console, *, iterations: int, every: float = 30.0) -> None:
        self._console = console
        self._iterations = iterations
        self._every = every
        self._since: float | None = None
        # The median of the last steps: one that also wrote a checkpoint or drew clips says nothing about the others.
        self._recent: deque[float] = deque(maxlen=_WINDOW)
        self._bar = Progress(
            TextColumn("train"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[now]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("train", total=iterations, now="")

    def begin(self, done: int) -> None:
        """Show the bar."""
        self._bar.update(self._task, completed=done)
        self._bar.start()

    def step(self, report: StepReport) -> None:
        """Move the bar, or print a line if it is time for one; the first and the last step always have one."""
        self._recent.append(report.seconds)
        now = self._remark(report)
        if self._console.is_terminal:
            self._bar.update(self._task, completed=report.step, now=now)
            return
        due = self._since is None or self._since + report.seconds >= self._every
        if due or report.step == self._iterations:
            self._say(f"step {report.step}/{self._iterations}  {now}")
            self._since = 0.0
        else:
            self._since = (self._since or 0.0) + report.seconds

    def note(self, step: int, name: str, value: float) -> None:
        """Print a line."""
        self._say(f"step {step}/{self._iterations}  {name} {value:.4g}")

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.stop()

    def _remark(self, report: StepReport) -> str:
        left = timedelta(seconds=round(statistics.median(self._recent) * (self._iterations - report.step)))
        parts = [
            f"loss {report.total:.4f}",
            f"gradient {report.gradient_norm:.3g}",
            f"{report.samples_per_second:.3g} samples/s",
            f"{left} left",
        ]
        if report.skipped:
            parts.append(f"{report.skipped} broken samples")
        return "  ".join(parts)

    def _say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, markup=False, highlight=False)
