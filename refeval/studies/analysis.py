"""Everything that is said of a study, from its votes alone: pure functions over comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from refeval.errors import BadInput
from refeval.statistics.results import Resampling
from refeval.studies.agreement import Alpha, krippendorff_alpha
from refeval.studies.analysis_clusters import Clusters, Rate
from refeval.studies.analysis_metrics import Agreement, Scores, metric_agreement
from refeval.studies.analysis_pairs import PairResult, compare_pairs
from refeval.studies.analysis_sides import Sides, look_at_sides
from refeval.studies.comparisons import Answer, Comparison, PairKind, Question
from refeval.studies.davidson import Ranking, rank_arms
from refeval.studies.exclusion import ExclusionRule
from refeval.studies.raters import Rater, look_at_raters

_DEFAULT = Resampling()


@dataclass(frozen=True, kw_only=True)
class QuestionResult:
    """One question over all arms.

    Attributes:
        question: asked.
        votes: between arms.
        tie_rate: ties among them, "both bad" included.
        both_bad_rate: "both bad" among them.
        ranking: strengths and ranks; None where the votes do not allow one.
        refused: why not.
        alpha: how far raters agree.
    """

    question: Question
    votes: int
    tie_rate: Rate
    both_bad_rate: Rate
    ranking: Ranking | None
    refused: str | None
    alpha: Alpha


@dataclass(frozen=True, kw_only=True)
class Results:
    """What the votes of some raters say.

    Attributes:
        raters: how many.
        votes: between arms, without repeats and checks.
        cases: that they lie on.
        pairs: every question and pair of arms.
        questions: every question with a vote.
        sides: position bias and self-consistency.
        metrics: agreement of metrics with the votes; empty without runs.
    """

    raters: int
    votes: int
    cases: int
    pairs: tuple[PairResult, ...]
    questions: tuple[QuestionResult, ...]
    sides: Sides
    metrics: tuple[Agreement, ...]


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """A study with and without the raters that the rule leaves out.

    Attributes:
        rule: fixed before the first vote.
        raters: everyone with a vote.
        kept: results of the raters that the rule keeps: the ones to quote; None where it keeps no vote.
        everyone: results of all raters; None where nobody is left out, as they would be the same.
        resampling: how intervals and p-values were made.
    """

    rule: ExclusionRule
    raters: tuple[Rater, ...]
    kept: Results | None
    everyone: Results | None
    resampling: Resampling

    @property
    def main(self) -> Results:
        """What the report is about: ``kept``, or ``everyone`` where the rule keeps no vote."""
        found = self.kept or self.everyone
        assert found is not None, "a study without votes is refused before"
        return found

    @property
    def excluded(self) -> tuple[Rater, ...]:
        """The raters that the rule leaves out."""
        return tuple(rater for rater in self.raters if rater.excluded)


def analyse(
    comparisons: Sequence[Comparison],
    rule: ExclusionRule,
    *,
    scores: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None,
    resampling: Resampling = _DEFAULT,
) -> Analysis:
    """The whole analysis.

    Args:
        comparisons: every vote with the key applied, checks and repeats among them.
        rule: who is left out.
        scores: metric -> arm -> case -> value, for the agreement of metrics with votes.
        resampling: number of draws, seed, level.

    Raises:
        BadInput: no vote between arms at all.
    """
    raters = look_at_raters(comparisons, rule)
    out = {rater.id for rater in raters if rater.excluded}
    if not any(one.kind is PairKind.REAL for one in comparisons):
        raise BadInput("there is no vote on a pair of arms yet", cure="collect votes first")
    kept = [one for one in comparisons if one.rater not in out]
    some = any(one.kind is PairKind.REAL for one in kept)
    return Analysis(
        rule=rule,
        raters=raters,
        kept=summarise(kept, scores or {}, resampling) if some else None,
        everyone=summarise(comparisons, scores or {}, resampling) if out else None,
        resampling=resampling,
    )


def summarise(comparisons: Sequence[Comparison], scores: Scores, resampling: Resampling) -> Results:
    """Results of the votes given, whoever gave them; repeats and checks enter :class:`Sides` only."""
    real = [one for one in comparisons if one.kind is PairKind.REAL]
    by_question = {question: [vote for vote in real if vote.question is question] for question in Question}
    return Results(
        raters=len({vote.rater for vote in real}),
        votes=len(real),
        cases=len({vote.case for vote in real}),
        pairs=compare_pairs(real, resampling),
        questions=tuple(_question(question, votes, resampling) for question, votes in by_question.items() if votes),
        sides=look_at_sides(comparisons, resampling),
        metrics=metric_agreement(real, scores, resampling) if scores else (),
    )


def _question(question: Question, votes: Sequence[Comparison], resampling: Resampling) -> QuestionResult:
    clusters = Clusters(votes, resampling)
    tied = np.array([vote.answer in (Answer.TIE, Answer.BOTH_BAD) for vote in votes], dtype=np.float64)
    bad = np.array([vote.answer is Answer.BOTH_BAD for vote in votes], dtype=np.float64)
    tie_rate, both_bad_rate = clusters.rate(tied), clusters.rate(bad)
    assert tie_rate is not None and both_bad_rate is not None, "a question without votes is left out before"
    ranking, refused = None, None
    try:
        ranking = rank_arms(votes, resampling)
    except BadInput as error:
        refused = "; ".join([error.what, *(f"{label}: {text}" for label, text in error.details)])
    return QuestionResult(
        question=question,
        votes=len(votes),
        tie_rate=tie_rate,
        both_bad_rate=both_bad_rate,
        ranking=ranking,
        refused=refused,
        alpha=krippendorff_alpha(votes, resampling),
    )
