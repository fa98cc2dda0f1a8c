"""Made-up raters of known taste: what they would answer on given sheets. For tests and for trying a study out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from refeval.studies.comparisons import Answer, Comparison, PairKind
from refeval.studies.design import PlannedScreen, PlannedSheet, Shown
from refeval.studies.exclusion import DECOY

# A spoilt clip is this much worse (log odds) than the clip that it is set against; equals are told to be so as often.
_PLAIN = 4.0


@dataclass(frozen=True, kw_only=True)
class Taste:
    """How made-up raters answer; all in log odds, see :mod:`refeval.studies.davidson`.

    Attributes:
        strengths: of each arm, in order of their numbers in the sheets.
        tie: log of Davidson's tie parameter.
        position: pull of the left side.
        by_case: spread of what a case does to the difference of two arms, the same for every rater.
        by_rater: spread of what a rater's taste does to it, the same for every case.
        careless: part of the raters who draw left, right or tie by lot; the first ones.
        both_bad: part of the ties that are given as "both bad".
    """

    strengths: tuple[float, ...]
    tie: float = -0.5
    position: float = 0.0
    by_case: float = 0.0
    by_rater: float = 0.0
    careless: float = 0.0
    both_bad: float = 0.0


def simulate(
    sheets: Sequence[PlannedSheet], taste: Taste, *, seed: int, labels: Sequence[str] | None = None
) -> list[Comparison]:
    """A vote on every screen, drawn from Davidson's model.

    Args:
        sheets: as :func:`refeval.studies.design.make_sheets` plans them, one per rater.
        taste: of the raters.
        seed: of the draws; the same seed gives the same votes.
        labels: of the arms; by default ``arm 0``, ``arm 1``, ...
    """
    rng = np.random.default_rng(seed)
    names = tuple(labels) if labels else tuple(f"arm {i}" for i in range(len(taste.strengths)))
    cases = sorted({screen.case for sheet in sheets for screen in sheet.screens})
    # One number per arm and case (rater) over root 2: the difference of two arms has the spread asked for.
    shape = len(names)
    by_case = dict(zip(cases, rng.normal(size=(len(cases), shape)) * taste.by_case / np.sqrt(2), strict=True))
    by_rater = rng.normal(size=(len(sheets), shape)) * taste.by_rater / np.sqrt(2)
    votes = []
    for number, sheet in enumerate(sheets):
        rater, careless = f"r{number + 1:02d}", number < round(taste.careless * len(sheets))
        likings = {case: np.array(taste.strengths) + by_case[case] + by_rater[number] for case in by_case}
        for place, screen in enumerate(sheet.screens):
            odds = np.ones(3) if careless else _odds(screen, likings[screen.case], taste)
            answer = (Answer.LEFT, Answer.TIE, Answer.RIGHT)[rng.choice(3, p=odds / odds.sum())]
            if answer is Answer.TIE and rng.random() < taste.both_bad:
                answer = Answer.BOTH_BAD
            votes.append(
                Comparison(
                    rater=rater,
                    item=f"i{place:03d}",
                    case=screen.case,
                    question=screen.question,
                    kind=screen.kind,
                    left=_label(screen, screen.left, names),
                    right=_label(screen, screen.right, names),
                    answer=answer,
                    seconds=round(float(rng.gamma(2.0, 2.0)), 2),
                    repeats=None if screen.repeats is None else f"i{screen.repeats:03d}",
                )
            )
    return votes


def _odds(screen: PlannedScreen, liking: npt.NDArray[np.float64], taste: Taste) -> npt.NDArray[np.float64]:
    tie = taste.tie + (_PLAIN if screen.kind is PairKind.IDENTICAL else 0.0)
    left, right = (liking[shown.arm] - _PLAIN * _spoilt(screen, shown) for shown in (screen.left, screen.right))
    d = left - right + taste.position
    odds: npt.NDArray[np.float64] = np.exp(np.array([d / 2, tie, -d / 2]))
    return odds


def _spoilt(screen: PlannedScreen, shown: Shown) -> bool:
    return shown.frozen or shown.case != screen.case


def _label(screen: PlannedScreen, shown: Shown, names: Sequence[str]) -> str:
    return DECOY if _spoilt(screen, shown) else names[shown.arm]
