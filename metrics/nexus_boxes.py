"""The arithmetic of NexusScore: which boxes count, the official value of a case, and the strict one.

Shapes: N boxes of one case, T frames looked at, S subjects.

Source: OpenS2V-Nexus eval/get_nexusscore.py at 210eb08 and, for the first release, at b452831.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from refeval.applicability import nexus_label
from refeval.cases import Case, Reference

if TYPE_CHECKING:
    from torch import Tensor

CONFIDENCE_ABOVE = 0.6
TEXT_ABOVE = 0.30

Corners = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is looked for.

    Attributes:
        position: of the reference in the case, from 1.
        reference: what the detector and the image similarity compare with.
        label: what the text similarity compares with; ``human`` for the people of human cases.
    """

    position: int
    reference: Reference
    label: str


@dataclass(frozen=True, kw_only=True)
class FoundBox:
    """One box of the detector.

    Attributes:
        frame: position among the frames looked at, from 0.
        subject: position among the subjects, from 0.
        corners: left, top, right, bottom, in pixels of the frame.
        confidence: the float32 number of the detector, exactly.
    """

    frame: int
    subject: int
    corners: Corners
    confidence: float

    @property
    def confident(self) -> bool:
        """Whether it can count; ``float32(0.6)`` can, because numpy 1 compares in double."""
        return self.confidence > CONFIDENCE_ABOVE

    @property
    def pixels(self) -> tuple[int, int, int, int]:
        """The corners as the official crop rounds them: halves to the even pixel."""
        left, top, right, bottom = self.corners
        return round(left), round(top), round(right), round(bottom)

    @property
    def is_empty(self) -> bool:
        """Whether the crop has no pixels."""
        left, top, right, bottom = self.pixels
        return right <= left or bottom <= top


@dataclass(frozen=True, kw_only=True)
class Sight:
    """The best box of one subject on one frame.

    Attributes:
        box: where.
        similarity: cosine with the reference, brought into 0..1.
    """

    box: FoundBox
    similarity: float


def scored_subjects(case: Case) -> list[Subject]:
    """The references that NexusScore looks for, in order; empty where the suite gives it nothing."""
    return [
        Subject(position=position, reference=reference, label=label)
        for position, reference in enumerate(case.references, 1)
        if (label := nexus_label(case, reference)) is not None
    ]


def count_boxes(boxes: Sequence[FoundBox], text_n: Tensor, image_n: Tensor) -> list[int]:
    """Indices of the boxes that count: confidence above 0.6, text above 0.30, image not 0.

    Args:
        boxes: of the whole case.
        text_n: cosine of each crop with its label. The comparison is one of this dtype: the nearest number to 0.30
            in float16 is not above 0.30.
        image_n: cosine of each crop with its reference.
    """
    similar = ((text_n > TEXT_ABOVE) & (image_n != 0)).tolist()
    return [i for i, box in enumerate(boxes) if box.confident and similar[i]]


def official_value(
    boxes: Sequence[FoundBox], text_n: Tensor, image_n: Tensor, *, first_release: bool = False
) -> float | None:
    """``mean(image cosines that count) / number of frames with a box``: versions 1.0 and 1.1.

    More frames with a box make it smaller; totals divide it by 0.05. Range: -1 to 1, 0 if no box counts.

    Args:
        boxes: in order of frames, then subjects, then confidence, on which the last bits depend.
        text_n: as for :func:`count_boxes`.
        image_n: as for :func:`count_boxes`. The mean is taken in its dtype, the division in double.
        first_release: divide by the number of (frame, subject) pairs with a box, as the first release did.

    Returns:
        None where there is no box at all: the official script then leaves the case out.
    """
    if not boxes:
        return None
    counted = count_boxes(boxes, text_n, image_n)
    if not counted:
        return 0.0
    divisor = {(box.frame, box.subject) for box in boxes} if first_release else {box.frame for box in boxes}
    return float(image_n[counted].mean().item()) / len(divisor)


def best_sights(
    boxes: Sequence[FoundBox], text_n: Tensor, image_n: Tensor, *, subjects: int, frames: int
) -> list[list[Sight | None]]:
    """Per subject and frame the box that counts and is most like the reference, ``[S][T]``; None: not found."""
    sights: list[list[Sight | None]] = [[None] * frames for _ in range(subjects)]
    for i in count_boxes(boxes, text_n, image_n):
        box = boxes[i]
        similarity = min(max(float(image_n[i]), 0.0), 1.0)
        before = sights[box.subject][box.frame]
        if before is None or similarity > before.similarity:
            sights[box.subject][box.frame] = Sight(box=box, similarity=similarity)
    return sights


def strict_value(sights: Sequence[Sequence[Sight | None]]) -> float:
    """Mean over frames and subjects of the similarity, 0 where a subject is not found.

    That is, per subject, the share of frames that show it times its mean similarity there. Range: 0 to 1. Showing a
    subject in one more frame never lowers it.
    """
    return fmean(sight.similarity if sight else 0.0 for row in sights for sight in row)
