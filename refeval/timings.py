"""How long tasks took on this machine: kept in ``logs/``, so that scores stay the same bytes, read by forecasts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ValidationError

from refeval.documents import naming_a_full_disk
from refeval.records import RenderStatus, ScoreStatus
from refeval.runs import Run
from refeval.work import Event, Phase

_FILE = "timings.jsonl"


class Timing(BaseModel):
    """One executed task.

    Attributes:
        phase: render or score.
        parts: the metrics scored together, or ``render``.
        seconds: wall time.
    """

    phase: Phase
    parts: list[str]
    seconds: float


def note_timing(run: Run, event: Event) -> None:
    """Append the time of a task that has made a clip or a score; what is missing takes no time worth knowing."""
    worked = {RenderStatus.RENDERED.value, ScoreStatus.SCORED.value}
    if event.phase is None or not worked & set(event.statuses.values()):
        return
    timing = Timing(phase=event.phase, parts=sorted(event.statuses), seconds=round(event.seconds, 3))
    path = run.folder / "logs" / _FILE
    with naming_a_full_disk(path), path.open("a") as file:
        file.write(timing.model_dump_json() + "\n")


def read_timings(folder: Path) -> Iterator[Timing]:
    """The timings of a run folder; a line cut short by a crash is passed over."""
    path = folder / "logs" / _FILE
    if not path.is_file():
        return
    for line in path.read_text().splitlines():
        try:
            yield Timing.model_validate(json.loads(line))
        except (ValueError, ValidationError):
            continue
