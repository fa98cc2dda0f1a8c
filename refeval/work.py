"""What a worker is asked to do and what it tells: plain JSON in both directions."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from refeval.errors import ExitCode, RefevalError
from refeval.place import Place


class Phase(StrEnum):
    """The two kinds of task; all clips are rendered before the first is scored."""

    RENDER = "render"
    SCORE = "score"


class Order(BaseModel):
    """Work of one kind on one run folder: its clips, or the scores of metrics whose models are loaded together.

    Attributes:
        run: the run folder.
        model: as given on the command line; None when nothing is rendered.
        data: folder of the reference images, if known.
        phase: what is made.
        cases: ids, in order.
        metrics: ids; none when clips are rendered.
        decoder: ``pyav`` or ``decord``.
        accept_lifeless: score black and frozen clips, as the official scripts do.
        place: where and by what means the model works.
        overlap: store a clip while the next one is rendered; decode one while the one before is scored.
        tiny: score with small random weights.
        spare_memory: go over to the model's low-memory preset before the first clip.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: Path
    model: str | None
    data: Path | None
    phase: Phase
    cases: list[str]
    metrics: list[str]
    decoder: str = "pyav"
    accept_lifeless: bool = False
    place: Place = Place()
    tiny: bool = False
    overlap: bool = True
    spare_memory: bool = False


class Problem(BaseModel):
    """A :class:`RefevalError` on its way from a worker to the user."""

    what: str
    details: list[tuple[str, str]]
    cure: str | None
    exit_code: ExitCode

    @classmethod
    def of(cls, error: RefevalError) -> Problem:
        return cls(what=error.what, details=list(error.details), cure=error.cure, exit_code=error.exit_code)

    def error(self) -> RefevalError:
        """The error again, with its exit code."""
        error = RefevalError(self.what, details=tuple(self.details), cure=self.cure)
        error.exit_code = self.exit_code
        return error


class Event(BaseModel):
    """One line from a worker.

    Attributes:
        kind: ``start`` before a task is executed, ``end`` when it is recorded (or was already), ``unavailable``
            when a metric cannot run here, ``fatal`` when the worker must stop.
        phase: of the task.
        case: of the task.
        keys: task key by metric id (by ``render`` for a clip) of the task that starts.
        statuses: status by metric id (by ``render``) of the task that ended.
        executed: whether this worker did the work, now.
        seconds: wall time of the work, where it was executed.
        problem: what is wrong, for ``unavailable`` and ``fatal``.
        metric: the one that is unavailable.
    """

    kind: Literal["start", "end", "unavailable", "fatal"]
    phase: Phase | None = None
    case: str | None = None
    keys: dict[str, str] = {}
    statuses: dict[str, str] = {}
    executed: bool = False
    seconds: float = 0.0
    problem: Problem | None = None
    metric: str | None = None
