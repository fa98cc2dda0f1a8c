"""One score held against the official value for the same clip: pure, and every tolerance has its reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from refeval.catalogue import METRIC_BY_ID
from refeval.records import RANDOM_WEIGHTS, ScoreRecord

# The subtraction of two decimals rounds: a difference of exactly the tolerance must not fall on its far side.
_ROUNDING = 1 + 1e-9


class Verdict(StrEnum):
    """What a comparison says."""

    EQUAL = "equal"
    WITHIN = "within"
    DIFFERS = "DIFFERS"
    NOT_COMPARABLE = "not comparable"
    MISSING = "missing"


JUDGED = (Verdict.EQUAL, Verdict.WITHIN, Verdict.DIFFERS)


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far a value may lie from the official one.

    Attributes:
        amount: in the unit of the metric; 0 asks for the same bits.
        shared_by: what it is divided by, as the record of the score has it: ``frames_used``, or a key of its details.
        reason: why so much.
    """

    amount: float
    shared_by: str | None = None
    reason: str

    def of(self, record: ScoreRecord) -> float:
        """For one score; 0 where there is nothing to divide by."""
        if self.shared_by is None:
            return self.amount
        count = record.frames_used if self.shared_by == "frames_used" else record.details.get(self.shared_by)
        return self.amount / count if count else 0.0

    def __str__(self) -> str:
        return f"{self.amount:.3g}" + (f" / {self.shared_by}" if self.shared_by else "")


# By argument, not by measurement: nobody has compared published weights yet (docs/metrics.md says so).
TOLERANCES = {
    "aesthetics": Tolerance(
        amount=1e-3,
        reason="float32, but a GPU adds in another order and may round the factors of a convolution to 10 bits",
    ),
    "motion_smoothness": Tolerance(
        amount=2.0,
        shared_by="frames_used",
        reason="frames are counted: one float16 jump beside the threshold moves the two frames of its pair",
    ),
    "motion_amplitude": Tolerance(
        amount=0.0,
        reason="no network, and the same bits with every OpenCV 4 that was tried",
    ),
    "facesim": Tolerance(
        amount=1e-3,
        reason="float32; landmarks that round otherwise move grey levels of a face; a face more or less is not covered",
    ),
    "gme": Tolerance(
        amount=2**-10,
        reason="float16: one step (2^-11 above 0.5) for the kernels, one for the rounding of the mean",
    ),
    "nexus": Tolerance(
        amount=2**-11,
        shared_by="frames_with_a_box",
        reason="float16: twice the step by which two official outputs differ; a box more or less is not covered",
    ),
    "natural": Tolerance(
        amount=0.0,
        reason="judged with recorded replies only: a mean of three votes has no rounding of its own",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Lack:
    """Why there is no score.

    Attributes:
        why: the reason.
        cure: what mends it, if that is known.
    """

    why: str
    cure: str | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One clip under one metric.

    Attributes:
        case: id.
        metric: id.
        verdict: of the comparison.
        official: the official value before the official merge clamps it; None: there is none.
        ours: value of the score; None: there is none.
        tolerance: what was allowed, where it was judged.
        reason: why it was not judged.
        cure: what mends that.
        details: of the score.
    """

    case: str
    metric: str
    verdict: Verdict
    official: float | None
    ours: float | None = None
    tolerance: float | None = None
    reason: str | None = None
    cure: str | None = None
    details: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The metric's name as published."""
        return METRIC_BY_ID[self.metric].label

    @property
    def difference(self) -> float | None:
        """Ours less the official value; None where one is missing or ours means nothing."""
        if self.official is None or self.ours is None or self.details.get(RANDOM_WEIGHTS):
            return None
        return self.ours - self.official

    def as_json(self) -> dict[str, Any]:
        """Every attribute; a number that is not finite is None, and the reason says so."""
        numbers = {
            "official": self.official,
            "ours": self.ours,
            "difference": self.difference,
            "tolerance": self.tolerance,
        }
        finite = {key: value if value is not None and math.isfinite(value) else None for key, value in numbers.items()}
        words = {"verdict": self.verdict.value, "reason": self.reason, "cure": self.cure}
        return {"case": self.case, "metric": self.metric, **finite, **words, "details": dict(self.details)}


def compare(case: str, metric: str, official: float | None, found: ScoreRecord | Lack, *, noisy: bool = False) -> Row:
    """Hold one score against the official value.

    Args:
        case: id.
        metric: id of a published metric.
        official: as the official files have it, NaN too; None: they have none.
        found: a scored record, or why there is none.
        noisy: the metric gives another number every time.
    """
    record = None if isinstance(found, Lack) else found
    row = Row(
        case=case,
        metric=metric,
        verdict=Verdict.NOT_COMPARABLE,
        official=official,
        ours=record.value if record else None,
        details=record.details if record else {},
    )
    if official is None or not math.isfinite(official):
        reason = "no official value" if official is None else f"the official value is {official}"
        return replace(row, reason=f"{reason}; ours: {found.why}" if isinstance(found, Lack) else reason)
    if isinstance(found, Lack):
        return replace(row, verdict=Verdict.MISSING, reason=found.why, cure=found.cure)
    if found.details.get(RANDOM_WEIGHTS):
        return replace(row, reason="random weights")
    if noisy:
        return replace(row, reason="the votes of a judge are noise; only recorded replies are compared")
    tolerance = TOLERANCES[metric].of(found)
    return replace(row, verdict=_judge(row, tolerance), tolerance=tolerance)


def _judge(row: Row, tolerance: float) -> Verdict:
    if row.ours == row.official:
        return Verdict.EQUAL
    difference = row.difference
    assert difference is not None, "both values are there"
    return Verdict.WITHIN if abs(difference) <= tolerance * _ROUNDING else Verdict.DIFFERS
