"""The fixed set: drawn clips that never change, and the votes on them that calibrate a judge."""

from __future__ import annotations

from typing import Any

import numpy as np

from refeval.clips import Clip, Frame
from refeval.errors import DiskFull, RefevalError
from refeval.metrics.judges.base import JudgeUnavailable, Request, parse_vote
from refeval.metrics.judges.calibration import Calibration
from refeval.metrics.judges.frames import OFFICIAL_FRAMES, judge_pictures
from refeval.metrics.judges.panel import Panel
from refeval.metrics.judges.rubric import Rubric
from refeval.redaction import describe_failure
from refeval.signals import raise_if_stopped
from refeval.sprites.drawing import draw_clip
from refeval.sprites.suite import scene_for

# Raised whenever a clip of the set may change.
SET_VERSION = 1
VOTES = 3
# No case of a suite can have this sign in its id.
_PREFIX = "calibration~"
_CASES = ("singlehuman_1", "faceobj_1", "multiobject_1")
_KINDS = ("smooth", "jumbled")
_FRAMES, _HEIGHT, _WIDTH = 16, 288, 512
_SEED = 20_260

# Case and vote, as replies are named by them.
NAMES = tuple(
    (f"{_PREFIX}{case}-{kind}", str(vote)) for case in _CASES for kind in _KINDS for vote in range(1, VOTES + 1)
)


def calibration_clips() -> dict[str, Clip]:
    """The fixed set by name: drawn scenes as they are, and with their frames out of order; the same in every run."""
    order = np.random.Generator(np.random.PCG64(_SEED)).permutation(_FRAMES)
    clips: dict[str, Clip] = {}
    for case in _CASES:
        frames: Frame = draw_clip(scene_for(case), _FRAMES, _HEIGHT, _WIDTH)
        for kind, shown in zip(_KINDS, (frames, frames[order]), strict=True):
            clips[f"{case}-{kind}"] = Clip.from_frames(shown, 16)
    return clips


def calibration_requests(model: str, rubric: Rubric) -> list[Request]:
    """The votes on the fixed set, in the order of :data:`NAMES`."""
    pictures = {_PREFIX + name: judge_pictures(clip, OFFICIAL_FRAMES) for name, clip in calibration_clips().items()}
    return [
        Request(case=case, repeat=vote, model=model, rubric=rubric, pictures=pictures[case]) for case, vote in NAMES
    ]


def calibrate(panel: Panel, requests: list[Request]) -> Calibration:
    """Have the fixed set voted on; recorded replies are not asked for again.

    Args:
        panel: the judge.
        requests: of :func:`calibration_requests`.

    Returns:
        Without votes and with the reason, where one could not be had: scoring goes on without a calibration.

    Raises:
        JudgeUnavailable: the judge cannot be asked any more.
        DiskFull: no space left.
    """
    try:
        replies = panel.ask(requests)
    except (JudgeUnavailable, DiskFull):
        raise
    except RefevalError as error:
        return _calibration(requests, reason=error.what)
    except Exception as error:  # noqa: BLE001 - whatever else a judge raises is its failure on these clips
        raise_if_stopped()
        return _calibration(requests, reason=describe_failure(error))
    votes: dict[str, list[float]] = {request.case.removeprefix(_PREFIX): [] for request in requests}
    for request, reply in zip(requests, replies, strict=True):
        value = parse_vote(reply.text).value
        if value is not None:
            votes[request.case.removeprefix(_PREFIX)].append(value)
    return _calibration(requests, votes=votes, served=sorted({reply.model_served for reply in replies}))


def _calibration(requests: list[Request], **outcome: Any) -> Calibration:
    request = requests[0]
    return Calibration(
        judge=request.model,
        rubric=request.rubric.as_settings(),
        set_version=SET_VERSION,
        asked=len(requests),
        **outcome,
    )
