"""Below the totals: who judged NaturalScore, told what, and how that judge does on the fixed set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from refeval.catalogue import METRIC_BY_ID
from refeval.metrics.judges.calibration import CALIBRATION, Calibration, Drift, read_calibration
from refeval.metrics.judges.rubric import Wording
from refeval.reports.views import RunView

_NATURAL = METRIC_BY_ID["natural"]


@dataclass(frozen=True, order=True, kw_only=True)
class _Told:
    """A judge, and the rubric that it was given."""

    judge: str
    wording: str
    sha256: str

    @classmethod
    def of(cls, judge: str, rubric: Mapping[str, str]) -> Self:
        return cls(judge=judge, wording=rubric.get("wording", "unknown"), sha256=rubric.get("sha256", "unknown"))

    def __str__(self) -> str:
        other = "" if self.wording == Wording.OFFICIAL else ", not the official wording"
        return f"rubric {self.wording} (sha256 {self.sha256[:8]}{other})"


def judge_note(view: RunView, label: str) -> str | None:
    """One sentence on the judge of a run; None where no case has been judged.

    Args:
        view: the run.
        label: its name in the table.
    """
    details = [
        record.details
        for (metric, _), record in view.scores.items()
        if metric == _NATURAL.id and "judge" in record.details
    ]
    if not details:
        return None
    cases = Counter(_told(entry) for entry in details)
    calibration = read_calibration(view.run.folder / "judge" / CALIBRATION)
    return f"{label}, {_NATURAL.label}: {_who(cases, details)}; {_calibrated(calibration, cases)}."


def _told(details: Mapping[str, Any]) -> _Told:
    return _Told.of(details["judge"], details.get("rubric", {}))


def _who(cases: Counter[_Told], details: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for told in sorted(cases):
        served = sorted({name for entry in details if _told(entry) == told for name in entry.get("served", ())})
        by = f" (served {', '.join(served)})" if served else ""
        parts.append(f"judge {told.judge}{by}, {told}")
    if len(parts) == 1:
        return parts[0]
    counted = [
        f"{part}, in {cases[told]} of {len(details)} cases" for told, part in zip(sorted(cases), parts, strict=True)
    ]
    return f"the records disagree on judge or rubric, and their mean is of neither: {'; '.join(counted)}"


def _calibrated(calibration: Calibration | None, cases: Counter[_Told]) -> str:
    if calibration is None:
        return "not calibrated: the run holds no calibration"
    if _Told.of(calibration.judge, calibration.rubric) not in cases:
        return "not calibrated: the calibration in the run is of another judge or rubric"
    if calibration.reason is not None:
        return f"not calibrated: {calibration.reason}"
    name = "calibration" if len(cases) == 1 else f"calibration of {calibration.judge}"
    drift = f", {_drift(calibration.drift)}" if calibration.drift else ""
    return f"{name}: {_mean(calibration)}{drift}"


def _mean(calibration: Calibration) -> str:
    valid, asked = len(calibration.all_votes), calibration.asked
    if calibration.mean is None:
        return f"none of {asked} votes is a number"
    return f"mean vote {calibration.mean:.2f} of {asked if valid == asked else f'{valid} valid of {asked}'}"


def _drift(drift: Drift) -> str:
    moved = "unknown: no clip can be compared" if drift.mean is None else f"{drift.mean:+.2f}"
    clips = len(drift.left_out) + len(drift.clips)
    left_out = f" without {len(drift.left_out)} of {clips} clips" if drift.left_out and drift.clips else ""
    served = ", and another model answers" if drift.served_changed else ""
    return f"drift {moved}{left_out} against calibration {drift.reference[:8]}{served}"
