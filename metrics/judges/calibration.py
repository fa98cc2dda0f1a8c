"""Calibration: a fixed set of drawn clips that the judge votes on in every run, so that its drift is seen.

A server may change the model behind a name. The votes on clips that never change tell: they are compared with those
of an earlier run of the same judge with the same rubric, which the user keeps in a file.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from refeval.clips import Clip, Frame
from refeval.documents import read_document, write_document
from refeval.errors import BadInput, CorruptFile
from refeval.metrics.judges.base import Request, parse_vote
from refeval.metrics.judges.frames import OFFICIAL_FRAMES, judge_pictures
from refeval.metrics.judges.panel import Panel
from refeval.metrics.judges.rubric import Rubric
from refeval.sprites.drawing import draw_clip
from refeval.sprites.suite import scene_for

# No case of a suite can have this sign in its id.
PREFIX = "calibration~"
VOTES = 3
_CASES = ("singlehuman_1", "faceobj_1", "multiobject_1")
_FRAMES, _HEIGHT, _WIDTH = 16, 288, 512
_SEED = 20_260
_SET_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What a judge says of the fixed set.

    Attributes:
        judge: as asked for.
        rubric_sha256: what it was told.
        votes: the valid votes by clip; an unparseable reply gives none.
        served: who answered.
        set_version: of the clips.
    """

    judge: str
    rubric_sha256: str
    votes: Mapping[str, list[float]]
    served: list[str]
    set_version: int = _SET_VERSION

    def drift_from(self, reference: Calibration) -> Drift:
        """The change since a reference; a pure function.

        Raises:
            BadInput: another judge, rubric or set: the difference would say nothing.
        """
        for name in ("judge", "rubric_sha256", "set_version"):
            here, there = getattr(self, name), getattr(reference, name)
            if here != there:
                what = f"the reference of the calibration is of another {name.removesuffix('_sha256')}"
                raise BadInput(what, details=(("here", str(here)), ("reference", str(there))))
        both = [clip for clip in self.votes if self.votes[clip] and reference.votes.get(clip)]
        clips = {clip: statistics.fmean(self.votes[clip]) - statistics.fmean(reference.votes[clip]) for clip in both}
        return Drift(
            mean=statistics.fmean(clips.values()) if clips else None,
            clips=clips,
            left_out=sorted({*self.votes, *reference.votes} - set(both)),
            served_changed=sorted(self.served) != sorted(reference.served),
        )

    def write(self, path: Path) -> None:
        """Keep it as a reference for later runs."""
        write_document(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what :meth:`write` wrote.

        Raises:
            BadInput: there is no such file, or it is something else.
        """
        try:
            content: dict[str, Any] = read_document(path)
            votes = {str(clip): [float(vote) for vote in votes] for clip, votes in content.pop("votes").items()}
            return cls(votes=votes, **content)
        except (OSError, CorruptFile, KeyError, TypeError, ValueError, AttributeError) as error:
            cure = "keep one with Calibration.write"
            raise BadInput(f"{path} is not the reference of a calibration", cure=cure) from error


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How far a judge has moved.

    Attributes:
        mean: over the clips, in votes (1 to 5); None where no clip can be compared.
        clips: mean vote now less mean vote then.
        left_out: clips without a valid vote here or there.
        served_changed: whether another model answered, by the server's own account.
    """

    mean: float | None
    clips: Mapping[str, float]
    left_out: list[str]
    served_changed: bool


def calibrate(panel: Panel, *, model: str, rubric: Rubric) -> Calibration:
    """Have the fixed set voted on, once per run: recorded replies are not asked for again.

    Raises:
        JudgeUnavailable: the judge cannot be asked any more.
        RefevalError: a vote could not be had.
    """
    requests = [
        Request(case=PREFIX + name, repeat=str(vote), model=model, rubric=rubric, pictures=pictures)
        for name, clip in calibration_clips().items()
        for pictures in [judge_pictures(clip, OFFICIAL_FRAMES)]
        for vote in range(1, VOTES + 1)
    ]
    replies = panel.ask(requests)
    votes: dict[str, list[float]] = {request.case.removeprefix(PREFIX): [] for request in requests}
    for request, reply in zip(requests, replies, strict=True):
        value = parse_vote(reply.text).value
        if value is not None:
            votes[request.case.removeprefix(PREFIX)].append(value)
    served = sorted({reply.model_served for reply in replies})
    return Calibration(judge=model, rubric_sha256=rubric.sha256, votes=votes, served=served)


def calibration_clips() -> dict[str, Clip]:
    """The fixed set by name: drawn scenes as they are, and with their frames out of order; the same in every run."""
    order = np.random.Generator(np.random.PCG64(_SEED)).permutation(_FRAMES)
    clips: dict[str, Clip] = {}
    for case in _CASES:
        frames: Frame = draw_clip(scene_for(case), _FRAMES, _HEIGHT, _WIDTH)
        clips[f"{case}-smooth"] = Clip.from_frames(frames, 16)
        clips[f"{case}-jumbled"] = Clip.from_frames(frames[order], 16)
    return clips
