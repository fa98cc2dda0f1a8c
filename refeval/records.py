"""What a run folder stores for each clip and each score: the schema, version 1."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator

SCHEMA_VERSION = 1
# In the details of a score that random weights gave: no total may pass it off as one.
RANDOM_WEIGHTS = "random_weights"


class ScoreStatus(StrEnum):
    """What became of one case under one metric. There is no NaN: a score is a number or a status."""

    SCORED = "scored"
    NOT_APPLICABLE = "not_applicable"
    MISSING = "missing"
    FAILED = "failed"
    UNPARSEABLE = "unparseable"


class RenderStatus(StrEnum):
    """What became of the clip of one case."""

    RENDERED = "rendered"
    MISSING = "missing"
    FAILED = "failed"


FINE_STATUSES = frozenset({RenderStatus.RENDERED.value, ScoreStatus.SCORED.value, ScoreStatus.NOT_APPLICABLE.value})


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: int = SCHEMA_VERSION
    case: str
    reason: str | None = None
    task_key: str

    def belongs_at(self, path: Path) -> bool:
        """Whether a file is where this record is to lie: a copy under another name speaks of another case."""
        return path.stem == self.case


class RenderRecord(_Record):
    """The clip of one case.

    Attributes:
        status: rendered, missing (there is nothing to render from) or failed.
        sha256: of the bytes of ``videos/<case>.mp4``.
        clip: width, height, frames (None: not counted yet) and fps as text, e.g. ``16`` or ``24000/1001``.
        settings: of the generator.
        seconds: wall time of the rendering.
        peak_memory_mb: peak resident memory of the process so far.
        notes: what happened on the way, from the generator, such as the memory preset that was needed.
    """

    status: RenderStatus
    sha256: str | None = None
    clip: dict[str, int | str | None] | None = None
    seed: int
    settings: dict[str, Any]
    seconds: float
    peak_memory_mb: float
    notes: dict[str, Any] = {}


class ScoreRecord(_Record):
    """The score of one case under one metric.

    Attributes:
        metric: id.
        value: what the official script gives for this clip, in its own unit.
        strict_value: what the ``strict`` protocol reads; the same number where the protocols agree.
        frames_used: how many frames the value rests on.
        details: what the reports show beside the value.
        clip_sha256: of the clip that was scored.
        made_by: what a value depends on besides case and clip, all of it part of the task key: ``version`` of the
            metric, ``libraries``, ``decoder``, ``settings``, ``weights`` (one sha256 over all). Empty without a value,
            and in records of earlier releases.
    """

    metric: str
    status: ScoreStatus
    value: float | None = None
    strict_value: float | None = None
    frames_used: int | None = None
    details: dict[str, Any] = {}
    clip_sha256: str | None = None
    made_by: dict[str, Any] = {}

    def belongs_at(self, path: Path) -> bool:
        """As for every record; the folder names the metric."""
        return super().belongs_at(path) and path.parent.name == self.metric

    @model_validator(mode="after")
    def _value_goes_with_scored(self) -> Self:
        scored = self.status is ScoreStatus.SCORED
        if scored != (self.value is not None) or scored != (self.strict_value is not None):
            raise ValueError("a scored record has both values, any other has none")
        if not scored and not self.reason:
            raise ValueError("a record without a value says why")
        return self
