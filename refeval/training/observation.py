"""What is seen of a training while it runs: a report of every step, clips now and then, and who they are given to."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refeval.training.worlds import DrawnClip

_GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """A finished iteration, over all processes; losses as in :class:`refeval.training.objective.Losses`.

    Attributes:
        step: from 1.
        total: what is minimised.
        error: weighted squared error of the velocity.
        positive: of the alignment, per aligned block, gated.
        negative: likewise.
        gate: mean of how much the alignment counts, 0 to 1.
        gradient_norm: before clipping.
        learning_rate: of the step.
        samples_per_second: over all processes.
        seconds: that the iteration took.
        memory_bytes: peak of the process so far: of the GPU, or resident where there is none.
        skipped: broken samples since the start of the process; those that are read ahead count too.
    """

    step: int
    total: float
    error: float
    positive: tuple[float, ...]
    negative: tuple[float, ...]
    gate: float
    gradient_norm: float
    learning_rate: float
    samples_per_second: float
    seconds: float
    memory_bytes: int
    skipped: int

    def scalars(self) -> dict[str, float]:
        """By the names that curves have everywhere; blocks count from 1, and without any there is no gate."""
        aligned = {
            f"alignment/{term}/block_{block}": value
            for term, values in (("positive", self.positive), ("negative", self.negative))
            for block, value in enumerate(values, start=1)
        }
        if aligned:
            aligned["alignment/gate"] = self.gate
        return {
            "loss/total": self.total,
            "loss/error": self.error,
            **aligned,
            "optimizer/gradient_norm": self.gradient_norm,
            "optimizer/learning_rate": self.learning_rate,
            "speed/samples_per_second": self.samples_per_second,
            "memory/peak_gib": self.memory_bytes / _GIB,
            "data/skipped": float(self.skipped),
        }


class Observer(ABC):
    """Sees a training, in the order of its steps; the main process reports."""

    def begin(self, done: int) -> None:
        """Hear, before the first step, where the training goes on.

        Args:
            done: finished iterations; what was told of later ones is made again.
        """

    @abstractmethod
    def step(self, report: StepReport) -> None:
        """Take a finished iteration."""

    def clips(self, step: int, drawn: Sequence[DrawnClip]) -> None:
        """Take clips drawn with the network after a step, always of the same samples."""

    def lacks_clips(self, step: int) -> bool:
        """Whether clips of a step are kept here, and those are not there."""
        return False

    def note(self, step: int, name: str, value: float) -> None:
        """Take a number that belongs to a step, but not to every step.

        Args:
            step: after which it was measured.
            name: ``group/name``.
            value: the number.
        """

    def close(self) -> None:
        """Write what is left, and let go; also where nothing has begun."""


class Observers(Observer):
    """Several as one.

    Args:
        observers: told in this order.
    """

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = tuple(observers)

    def begin(self, done: int) -> None:
        """See :class:`Observer`."""
        for one in self._observers:
            one.begin(done)

    def step(self, report: StepReport) -> None:
        """See :class:`Observer`."""
        for one in self._observers:
            one.step(report)

    def clips(self, step: int, drawn: Sequence[DrawnClip]) -> None:
        """See :class:`Observer`."""
        for one in self._observers:
            one.clips(step, drawn)

    def lacks_clips(self, step: int) -> bool:
        """Whether any of them does."""
        return any(one.lacks_clips(step) for one in self._observers)

    def note(self, step: int, name: str, value: float) -> None:
        """See :class:`Observer`."""
        for one in self._observers:
            one.note(step, name, value)

    def close(self) -> None:
        """Close every one, also where another fails to."""
        with contextlib.ExitStack() as stack:
            for one in self._observers:
                stack.callback(one.close)
