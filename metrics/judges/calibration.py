"""Calibration: what a judge says of a fixed set of clips in every run, and its drift from what it said before.

A server may change the model behind a name. The votes on clips that never change tell: they are compared with those
of an earlier run of the same judge with the same rubric.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from refeval.documents import read_document, write_document
from refeval.errors import BadInput, CorruptFile

CALIBRATION = "calibration.json"
_CURE = "REFEVAL_JUDGE_CALIBRATION=RUN/judge/calibration.json of a run with the same judge and the same rubric"


class Drift(BaseModel):
    """How far a judge has moved.

    Attributes:
        reference: :attr:`Calibration.sha256` of what it is compared with.
        mean: over the clips, in votes (1 to 5); None where no clip can be compared.
        clips: mean vote now less mean vote then.
        left_out: clips without a valid vote here or there.
        served_changed: whether another model answered, by the server's own account.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    reference: str
    mean: float | None
    clips: dict[str, float]
    left_out: list[str]
    served_changed: bool


class Calibration(BaseModel):
    """What a judge says of the fixed set: ``RUN/judge/calibration.json``, schema version 1.

    Attributes:
        judge: as asked for.
        rubric: wording and sha256 of what it was told.
        set_version: of the clips.
        asked: votes asked for.
        votes: the valid ones by clip; an unparseable reply gives none.
        served: who answered.
        reason: why the judge could not be calibrated; then there are no votes. None: it was.
        drift: from a reference, where one was given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal[1] = 1
    judge: str
    rubric: dict[str, str]
    set_version: int
    asked: int
    votes: dict[str, list[float]] = {}
    served: list[str] = []
    reason: str | None = None
    drift: Drift | None = None

    @model_validator(mode="after")
    def _votes_or_a_reason(self) -> Self:
        if bool(self.votes) == (self.reason is not None):
            raise ValueError("a calibration has votes by clip, or says why not")
        return self

    @property
    def sha256(self) -> str:
        """Of what was judged and said, hex; the drift from something else is no part of it."""
        said = [self.judge, self.rubric.get("sha256"), self.set_version, self.votes, self.served]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    @property
    def mean(self) -> float | None:
        """Of all valid votes."""
        votes = self.all_votes
        return statistics.fmean(votes) if votes else None

    @property
    def all_votes(self) -> list[float]:
        """The valid votes, clip by clip."""
        return [vote for votes in self.votes.values() for vote in votes]

    def fits(self, *, judge: str, rubric_sha256: str, set_version: int) -> bool:
        """Whether it is the calibration of this judge with this rubric on this set."""
        return self.reason is None and not self._differing(judge, rubric_sha256, set_version)

    def require(self, *, judge: str, rubric_sha256: str, set_version: int) -> None:
        """Hold a reference against what is to be compared with it.

        Raises:
            BadInput: another judge, rubric or set, or no votes: the difference would say nothing.
        """
        for name, here, there in self._differing(judge, rubric_sha256, set_version):
            what = f"the reference of the calibration is of another {name}"
            raise BadInput(what, details=(("here", here), ("reference", there)), cure=_CURE)
        if self.reason is not None:
            raise BadInput(f"the reference of the calibration holds no votes: {self.reason}", cure=_CURE)

    def drift_from(self, reference: Calibration) -> Drift:
        """The change since a reference; a pure function.

        Raises:
            BadInput: as :meth:`require`.
        """
        reference.require(judge=self.judge, rubric_sha256=self.rubric.get("sha256", ""), set_version=self.set_version)
        both = [clip for clip in self.votes if self.votes[clip] and reference.votes.get(clip)]
        clips = {clip: statistics.fmean(self.votes[clip]) - statistics.fmean(reference.votes[clip]) for clip in both}
        return Drift(
            reference=reference.sha256,
            mean=statistics.fmean(clips.values()) if clips else None,
            clips=clips,
            left_out=sorted({*self.votes, *reference.votes} - set(both)),
            served_changed=sorted(self.served) != sorted(reference.served),
        )

    def compared_with(self, reference: Calibration) -> Calibration:
        """With its drift; without votes there is none.

        Raises:
            BadInput: as :meth:`require`.
        """
        return self if self.reason is not None else self.model_copy(update={"drift": self.drift_from(reference)})

    def write(self, path: Path) -> None:
        """Keep it in a run folder; votes that lie there and are others are set aside.

        Raises:
            DiskFull: no space left.
        """
        old = read_calibration(path)
        if old is not None and old.reason is None and old.sha256 != self.sha256:
            aside = path.parent / "superseded"
            aside.mkdir(exist_ok=True)
            path.replace(aside / f"{path.stem}.{old.sha256[:12]}.json")
        write_document(path, self.model_dump(mode="json"))

    def _differing(self, judge: str, rubric_sha256: str, set_version: int) -> Iterable[tuple[str, str, str]]:
        pairs = (
            ("judge", judge, self.judge),
            ("rubric", rubric_sha256, self.rubric.get("sha256", "")),
            ("set", str(set_version), str(self.set_version)),
        )
        return [pair for pair in pairs if pair[1] != pair[2]]


def load_calibration(path: Path) -> Calibration:
    """Read what :meth:`Calibration.write` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        CorruptFile: it does not match its digest.
        ValidationError: it is something else.
    """
    return Calibration.model_validate(read_document(path))


def read_calibration(path: Path) -> Calibration | None:
    """The calibration of a run; None if there is none or it is damaged."""
    try:
        return load_calibration(path)
    except (OSError, CorruptFile, ValidationError):
        return None


def read_reference(path: Path) -> Calibration:
    """The calibration that another one is to be compared with.

    Raises:
        BadInput: there is no such file, or it is something else.
    """
    try:
        return load_calibration(path)
    except (OSError, CorruptFile, ValidationError) as error:
        raise BadInput(f"{path} is not the calibration of a judge", cure=_CURE) from error


def drift_between(run: Path, baseline: Path) -> Drift | None:
    """How far the judge has moved from one run folder to another.

    Args:
        run: the later run.
        baseline: the run that it is held against.

    Returns:
        None where one of them was not calibrated.

    Raises:
        BadInput: their judges, rubrics or sets differ.
    """
    now, then = (read_calibration(folder / "judge" / CALIBRATION) for folder in (run, baseline))
    if now is None or then is None or now.reason is not None or then.reason is not None:
        return None
    return now.drift_from(then)
