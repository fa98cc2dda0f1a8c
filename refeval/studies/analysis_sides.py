"""Does the left side draw votes, and do raters agree with themselves?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refeval.statistics.results import Resampling
from refeval.studies.analysis_clusters import Clusters, Rate
from refeval.studies.comparisons import Comparison, PairKind
from refeval.studies.raters import repeated_pairs
from refeval.studies.verdicts import side, verdict


@dataclass(frozen=True, kw_only=True)
class Sides:
    """How much the side a clip stands on matters, over all questions.

    Attributes:
        left: votes for the left among decisive votes on pairs of arms; 1/2 without a pull. Each arm of a pair stands
            left as often as right, so this is the side's doing.
        left_identical: the same where both sides show one clip.
        alike: repeats with changed sides that are answered as the first time: same arm, or a tie again.
        same_left: repeats that say left both times, of the decisive repeats that say the same side twice.
        repeats: pairs of votes that ``alike`` rests on.
        same_side: of these, those that say the same side twice, so the other arm.
    """

    left: Rate | None
    left_identical: Rate | None
    alike: Rate | None
    same_left: Rate | None
    repeats: int
    same_side: int


def look_at_sides(comparisons: Sequence[Comparison], resampling: Resampling) -> Sides:
    """Position bias and self-consistency.

    Args:
        comparisons: of every kind.
        resampling: number of draws, seed, level.
    """
    pairs = repeated_pairs(comparisons)
    again = [second for _, second in pairs]
    alike = np.array([verdict(first) == verdict(second) for first, second in pairs], dtype=np.float64)
    same = np.array([side(first) == side(second) != 0 for first, second in pairs], dtype=np.float64)
    left = np.array([side(second) == 1 for second in again], dtype=np.float64)
    clusters = Clusters(again, resampling) if again else None
    return Sides(
        left=_left([one for one in comparisons if one.kind is PairKind.REAL], resampling),
        left_identical=_left([one for one in comparisons if one.kind is PairKind.IDENTICAL], resampling),
        alike=clusters.rate(alike) if clusters else None,
        same_left=clusters.rate(left * same, same) if clusters else None,
        repeats=len(pairs),
        same_side=int(same.sum()),
    )


def _left(votes: Sequence[Comparison], resampling: Resampling) -> Rate | None:
    if not votes:
        return None
    side_v = np.array([side(vote) for vote in votes])
    return Clusters(votes, resampling).rate((side_v == 1).astype(np.float64), (side_v != 0).astype(np.float64))
