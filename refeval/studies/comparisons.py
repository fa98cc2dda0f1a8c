"""One vote as the analysis sees it: which arms were shown, on which side, and what the rater said."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Question(StrEnum):
    """What raters are asked about a pair, one question per screen."""

    QUALITY = "quality"
    REFERENCE = "reference"
    TEXT = "text"


class Answer(StrEnum):
    """What a rater may say; both bad counts as a tie between the arms."""

    LEFT = "left"
    RIGHT = "right"
    TIE = "tie"
    BOTH_BAD = "both_bad"


class PairKind(StrEnum):
    """Why a pair is shown.

    ``REPEAT`` is a real pair that comes back with its sides changed; ``IDENTICAL`` shows one clip twice, its right
    answer is a tie; ``DECOY`` sets a clip against a spoilt one (frozen, or of other references), its right answer is
    the clip.
    """

    REAL = "real"
    REPEAT = "repeat"
    IDENTICAL = "identical"
    DECOY = "decoy"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One vote with the key applied.

    Attributes:
        rater: token-free id, e.g. ``r07``.
        item: id of the screen, unique within a rater's sheet.
        case: id.
        question: asked.
        kind: of the pair.
        left: arm shown on the left: its label; for a decoy's spoilt side ``decoy``.
        right: likewise.
        answer: given.
        seconds: between the end of the first showing and the vote.
        repeats: for a repeat, the item that it repeats.
    """

    rater: str
    item: str
    case: str
    question: Question
    kind: PairKind
    left: str
    right: str
    answer: Answer
    seconds: float
    repeats: str | None = None
