"""NaturalScore: how natural a clip looks to a judge, as OpenS2V-Eval asks for it.

Source: OpenS2V-Nexus eval/get_naturalscore.py and merge_result.py:58-67 at 210eb08. Differs: the clip is decoded
once, not three times; a vote that is no number from 1 to 5 makes the case ``unparseable`` instead of ending the merge;
raw replies are recorded one by one; the official rubric is read from the user's copy of the script. Pictures, request
and the mean of the votes are the same.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from refeval.cases import Case
from refeval.clips import Clip, FrameRule
from refeval.errors import MissingPrerequisite, RefevalError
from refeval.metrics.base import MemoryNeed, Metric, Score
from refeval.metrics.judges.base import Judge, Request, read_vote
from refeval.metrics.judges.calibration import CALIBRATION, Calibration, read_calibration, read_reference
from refeval.metrics.judges.fixed_set import NAMES, SET_VERSION, calibrate, calibration_requests
from refeval.metrics.judges.frames import (
    FRAMES,
    JPEG_QUALITY,
    LONG_SIDE,
    OFFICIAL_FRAMES,
    STRICT_FRAMES,
    judge_pictures,
)
from refeval.metrics.judges.limits import Budget, Estimate, Pace
from refeval.metrics.judges.local import LocalJudge, local_model_name, model_files, weights_of, weights_size
from refeval.metrics.judges.panel import Panel
from refeval.metrics.judges.replies import RecordedJudge, ReplyFolder
from refeval.metrics.judges.rubric import Rubric, read_rubric
from refeval.metrics.judges.server import OpenAIJudge
from refeval.metrics.judges.settings import OFFICIAL_MODEL, JudgeConfig

VOTES = 3
_STRICT = "strict-"
# For 16 pictures and the rubric, about 3,500 tokens at once.
_LOCAL_WORK_GB = 2.0


class NaturalScore(Metric):
    """Mean of three votes of a judge, each a bare number from 1 to 5.

    ``value = mean(votes)`` on the official pictures: 16 frames from the start at stride ``T // 16``, so the tail is
    never seen; long side 512, JPEG quality 95. ``strict`` takes three votes of its own on 16 frames over the whole
    clip; where these are the same pictures, the votes are the same.

    Range: 1 to 5. Higher is better.

    One unparseable vote, official or strict, makes the case ``unparseable``: never a 0, and never a mean over
    the rest. Failed calls make it ``failed``. Recorded votes are kept, and only missing ones are asked for later.

    Attributes:
        replies: where raw replies are recorded (``RUN/judge``); set before scoring.

    Args:
        config: by default what the environment says.

    Raises:
        MissingPrerequisite: no judge is chosen, or the rubric or the local model is not there.
        BadInput: a setting that cannot be used.
    """

    id = "natural"
    label = "NaturalScore"
    version = "1"
    range = (1.0, 5.0)
    frames = OFFICIAL_FRAMES
    libraries = ("numpy", "opencv-python-headless")

    def __init__(self, config: JudgeConfig | None = None) -> None:
        self.config = config or JudgeConfig.from_environment()
        self.rubric: Rubric = read_rubric(self.config.rubric)
        self.replies: Path | None = None
        if self._local:
            model_files(self._local)
        else:
            # Of a local judge it waits: its name needs the sha256 of its weights.
            _ = self.reference

    def settings(self) -> dict[str, Any]:
        """Judge, rubric and pictures; not where the judge runs nor what it costs."""
        return {
            "judge": self.model,
            "rubric": self.rubric.as_settings(),
            "votes": VOTES,
            "pictures": {"frames": FRAMES, "long_side": LONG_SIDE, "jpeg_quality": JPEG_QUALITY},
        }

    def keep_in(self, folder: Path) -> None:
        """The judge's replies go to ``judge/``."""
        self.replies = folder / "judge"

    def weights(self) -> dict[str, str]:
        """Of a local judge."""
        return self._local_weights

    def memory(self) -> MemoryNeed:
        """Of a local judge, whose weights are published in bfloat16; one on a server needs none."""
        if self._local is None:
            return self.needs
        return MemoryNeed(models={"judge": weights_size(self._local)}, work=_LOCAL_WORK_GB)

    def prepare(self) -> None:
        """Make the judge.

        Raises:
            MissingPrerequisite: its client or the recorded replies are missing.
            BadInput: the reference of the calibration is of another judge.
        """
        _ = self._judge, self.reference

    def begin(self) -> None:
        """Have the fixed set judged and keep what came of it, with its drift from the reference, if there is one.

        What fits the judge, the rubric and the set is not made again; recorded replies are not asked for again. Where
        nobody can be asked and the replies are not recorded, the run stays without. A failure is recorded, and tried
        again by the next process: the cases are scored without a calibration too.

        Raises:
            BadInput: as :meth:`prepare`.
            JudgeUnavailable: the judge cannot be asked any more; no case can be scored either.
            DiskFull: no space left.
        """
        reference = self.reference
        recorded = read_calibration(self._calibration)
        calibration = recorded if self._fits(recorded) else self._calibrate()
        if calibration is not None and reference is not None:
            calibration = calibration.compared_with(reference)
        if calibration is not None and calibration != recorded:
            calibration.write(self._calibration)

    def score(self, case: Case, clip: Clip) -> Score:
        """Score one clip.

        Args:
            case: only its id is used.
            clip: uint8 RGB, shape (T, H, W, 3).

        Raises:
            Unparseable: a vote is not a number from 1 to 5.
            JudgeUnavailable: the judge cannot be asked any more; no other case can be scored either.
            RefevalError: a vote could not be had.
        """
        official = self._requests(case, clip, OFFICIAL_FRAMES, "")
        strict = self._requests(case, clip, STRICT_FRAMES, _STRICT)
        if strict[0].pictures == official[0].pictures:
            strict = []
        requests = [*official, *strict]
        replies = self.panel.ask(requests)
        votes = [read_vote(request, reply) for request, reply in zip(requests, replies, strict=True)]
        strict_votes = votes[VOTES:] or votes
        return Score(
            value=sum(votes[:VOTES]) / VOTES,
            strict_value=statistics.fmean(strict_votes),
            frames_used=len(official[0].pictures),
            details={
                "votes": votes[:VOTES],
                "strict_votes": strict_votes,
                "judge": self.model,
                "served": sorted({reply.model_served for reply in replies}),
                "rubric": self.rubric.as_settings(),
                "input_tokens": _total(reply.input_tokens for reply in replies),
                "output_tokens": _total(reply.output_tokens for reply in replies),
                "price_usd": _total(reply.price for reply in replies),
            },
        )

    def estimate(self, cases: Sequence[Case]) -> Estimate:
        """What scoring will take at most, with the calibration.

        Votes on cases that are recorded are left out, whether or not they still fit.
        """
        folder = self._folder
        names = [f"{prefix}{vote}" for prefix in ("", _STRICT) for vote in range(1, VOTES + 1)]
        open_votes = sum(folder.record(case.id, name) is None for case in cases for name in names)
        calls = 0 if isinstance(self._judge, RecordedJudge) else open_votes + self._open_calibration
        return Estimate.of(calls, pictures_per_call=FRAMES, past=folder.spending())

    def cost(self, cases: Sequence[Case]) -> str:
        """As :meth:`estimate`, in words.

        Raises:
            BadInput: the reference of the calibration is of another judge.
        """
        _ = self.reference
        return str(self.estimate(cases))

    @cached_property
    def model(self) -> str:
        """The judge's name, as settings and records have it."""
        if self._local:
            name = self.config.model or self._local.resolve().name
            return local_model_name(name, self._local_weights)
        return self.config.model or OFFICIAL_MODEL

    @cached_property
    def reference(self) -> Calibration | None:
        """The calibration that this run's is compared with, if one is given.

        Raises:
            BadInput: it is none, or of another judge, rubric or set.
        """
        if self.config.calibration is None:
            return None
        reference = read_reference(self.config.calibration)
        reference.require(judge=self.model, rubric_sha256=self.rubric.sha256, set_version=SET_VERSION)
        return reference

    @cached_property
    def panel(self) -> Panel:
        """The judge with its recorded replies.

        Raises:
            MissingPrerequisite: as :meth:`prepare`.
            RefevalError: ``replies`` is not set.
        """
        limit = self.config.budget if isinstance(self._judge, OpenAIJudge) else None
        budget = Budget(limit, self._folder) if limit else None
        return Panel(judge=self._judge, replies=self._folder, budget=budget)

    def _calibrate(self) -> Calibration | None:
        requests = calibration_requests(self.model, self.rubric)
        if isinstance(self._judge, RecordedJudge) and not all(map(self._is_recorded, requests)):
            return None
        return calibrate(self.panel, requests)

    def _is_recorded(self, request: Request) -> bool:
        folders = [self._folder, *([self._judge.replies] if isinstance(self._judge, RecordedJudge) else [])]
        return any(folder.find(request) for folder in folders)

    def _fits(self, calibration: Calibration | None) -> bool:
        return calibration is not None and calibration.fits(
            judge=self.model, rubric_sha256=self.rubric.sha256, set_version=SET_VERSION
        )

    @property
    def _open_calibration(self) -> int:
        if self._fits(read_calibration(self._calibration)):
            return 0
        records = [self._folder.record(case, vote) for case, vote in NAMES]
        told = self.rubric.as_settings()
        return sum(record is None or (record.model, record.rubric) != (self.model, told) for record in records)

    @property
    def _calibration(self) -> Path:
        return self._folder.folder / CALIBRATION

    def _requests(self, case: Case, clip: Clip, rule: FrameRule, prefix: str) -> list[Request]:
        pictures = judge_pictures(clip, rule)
        return [
            Request(case=case.id, repeat=f"{prefix}{vote}", model=self.model, rubric=self.rubric, pictures=pictures)
            for vote in range(1, VOTES + 1)
        ]

    @cached_property
    def _folder(self) -> ReplyFolder:
        if self.replies is None:
            raise RefevalError("NaturalScore does not know where to record the judge's replies")
        return ReplyFolder(self.replies)

    @property
    def _local(self) -> Path | None:
        return None if self.config.replay else self.config.local

    @cached_property
    def _local_weights(self) -> dict[str, str]:
        return weights_of(self._local) if self._local else {}

    @cached_property
    def _judge(self) -> Judge:
        config = self.config
        if config.replay:
            return _recorded(config.replay)
        if config.local:
            return LocalJudge(config.local, self.place.device)
        assert config.url, "a config names a judge"
        if config.offline:
            return RecordedJudge(self._folder.folder)
        return OpenAIJudge(
            config.url,
            key=config.key(),
            key_variable=config.key_variable,
            price=config.price,
            pace=Pace(config.per_minute / self.place.processes if config.per_minute else None),
        )


def _recorded(folder: Path) -> RecordedJudge:
    if not folder.is_dir():
        cure = "REFEVAL_JUDGE_REPLAY=RUN/judge of a run that was judged"
        raise MissingPrerequisite(f"there are no recorded replies: no folder {folder}", cure=cure)
    return RecordedJudge(folder)


def _total(counts: Iterable[float | None]) -> float | None:
    known = list(counts)
    return None if None in known else sum(count for count in known if count is not None)
