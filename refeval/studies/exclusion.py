"""Who is left out of a study: by attention checks, and by a rule that is fixed before any vote."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction

from pydantic import BaseModel, ConfigDict

from refeval.studies.comparisons import Answer, Comparison, PairKind

DECOY = "decoy"
"""Stands for an arm where a check shows a spoilt clip (see :class:`Comparison`)."""


class ExclusionRule(BaseModel):
    """A rater is left out whose part of rightly answered attention checks is below ``least``.

    A rater who has answered no check yet has not failed one and stays.

    Attributes:
        least: as a fraction in text, e.g. ``2/3``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    least: str = "2/3"

    def keeps(self, right: int, checks: int) -> bool:
        """Whether so many right answers suffice."""
        return right >= Fraction(self.least) * checks

    def passed_by_guessing(self, checks: int) -> float:
        """The chance that a rater who draws left, right or tie by lot is kept, 0 to 1."""
        enough = math.ceil(Fraction(self.least) * checks)
        ways = sum(math.comb(checks, k) * 2 ** (checks - k) for k in range(enough, checks + 1))
        return float(ways / 3**checks)

    def excluded(self, comparisons: Sequence[Comparison]) -> list[str]:
        """The raters that the rule leaves out, in order of their ids."""
        checks: dict[str, list[bool]] = defaultdict(list)
        for one in comparisons:
            if one.kind in (PairKind.IDENTICAL, PairKind.DECOY):
                checks[one.rater].append(is_right(one))
        return sorted(rater for rater, given in checks.items() if not self.keeps(sum(given), len(given)))


def is_right(check: Comparison) -> bool:
    """Whether an attention check is answered rightly: no difference between equals, never for the spoilt clip.

    "Both bad" is right for two equal clips, and wrong for a decoy.
    """
    if check.kind is PairKind.IDENTICAL:
        return check.answer in (Answer.TIE, Answer.BOTH_BAD)
    return check.answer is (Answer.RIGHT if check.left == DECOY else Answer.LEFT)
