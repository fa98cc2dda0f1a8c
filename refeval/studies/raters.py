"""What is known of each rater: attention checks, repeats, speed; and who is left out by the rule."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from refeval.studies.comparisons import Comparison, PairKind
from refeval.studies.exclusion import ExclusionRule, is_right
from refeval.studies.verdicts import verdict

CHECKS = (PairKind.IDENTICAL, PairKind.DECOY)


@dataclass(frozen=True, kw_only=True)
class Rater:
    """One rater.

    Attributes:
        id: as in the sheets.
        votes: on pairs of arms, without repeats and checks.
        right: attention checks answered rightly, of ``checks``.
        alike: repeats answered as the first time, of ``repeats``.
        seconds: median time from the end of the first showing to the vote; None without a vote.
        excluded: why the rater is left out; None where not.
    """

    id: str
    votes: int
    right: int
    checks: int
    alike: int
    repeats: int
    seconds: float | None
    excluded: str | None


def look_at_raters(comparisons: Sequence[Comparison], rule: ExclusionRule) -> tuple[Rater, ...]:
    """Every rater with a vote, by id.

    Repeats and speed are shown and exclude nobody: a sheet has a handful of repeats, too few to judge one person by,
    and a rater may make up their mind while the clips still play.

    Args:
        comparisons: all votes of the study.
        rule: fixed before the first vote.
    """
    by_rater: defaultdict[str, list[Comparison]] = defaultdict(list)
    for one in comparisons:
        by_rater[one.rater].append(one)
    excluded = set(rule.excluded(comparisons))
    return tuple(_rater(name, by_rater[name], rule, name in excluded) for name in sorted(by_rater))


def repeated_pairs(comparisons: Sequence[Comparison]) -> list[tuple[Comparison, Comparison]]:
    """Votes on a pair and on its return with changed sides, both of one rater; without those that lack either."""
    first = {(one.rater, one.item): one for one in comparisons}
    found = []
    for again in comparisons:
        if again.kind is PairKind.REPEAT and again.repeats and (again.rater, again.repeats) in first:
            found.append((first[again.rater, again.repeats], again))
    return found


def _rater(name: str, given: Sequence[Comparison], rule: ExclusionRule, excluded: bool) -> Rater:
    checks = [is_right(one) for one in given if one.kind in CHECKS]
    repeats = [verdict(first) == verdict(again) for first, again in repeated_pairs(given)]
    real = [one for one in given if one.kind is PairKind.REAL]
    reason = f"{sum(checks)} of {len(checks)} attention checks right, fewer than {rule.least}"
    return Rater(
        id=name,
        votes=len(real),
        right=sum(checks),
        checks=len(checks),
        alike=sum(repeats),
        repeats=len(repeats),
        seconds=median(one.seconds for one in real) if real else None,
        excluded=reason if excluded else None,
    )
