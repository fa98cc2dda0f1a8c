"""Two arms under one question: wins, ties, losses, how sure they are, and a test of no preference."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import permutation_test

from refeval.statistics.results import Resampling
from refeval.statistics.scores import FloatArray
from refeval.statistics.testing import holm
from refeval.studies.analysis_clusters import Clusters, Rate
from refeval.studies.comparisons import Answer, Comparison, Question
from refeval.studies.verdicts import pair_of, verdict

# Apart from those of the bootstrap, so that one more draw there does not move the test.
_PERMUTATION_STREAM = 10


@dataclass(frozen=True, kw_only=True)
class PairResult:
    """What the votes of one question say of two arms.

    Attributes:
        first: arm whose wins are counted; its label comes before that of ``second``.
        wins: votes for ``first``.
        ties: votes for neither, ``both_bad`` among them.
        losses: votes for ``second``.
        cases: that the votes lie on.
        raters: who gave them.
        win_rate: wins among decisive votes; None without one.
        half_rate: wins among all votes when a tie is half a win.
        win_share: wins among all votes.
        tie_share: ties among all votes.
        loss_share: losses among all votes.
        preference: mean over cases of the case's (wins - losses) / votes, -1 to 1; above 0: ``first`` is preferred.
        p: of the permutation test that there is no preference, two-sided.
        p_holm: corrected for all pairs and questions of the study.
    """

    question: Question
    first: str
    second: str
    wins: int
    ties: int
    both_bad: int
    losses: int
    cases: int
    raters: int
    win_rate: Rate | None
    half_rate: Rate
    win_share: Rate
    tie_share: Rate
    loss_share: Rate
    preference: float
    p: float
    p_holm: float

    @property
    def votes(self) -> int:
        return self.wins + self.ties + self.losses


def compare_pairs(votes: Sequence[Comparison], resampling: Resampling) -> tuple[PairResult, ...]:
    """Every question and pair of arms that has a vote, by question and labels; p-values corrected over all of them.

    Args:
        votes: between arms; repeats and checks do not belong here.
        resampling: number of draws, seed, level.
    """
    groups: defaultdict[tuple[Question, tuple[str, str]], list[Comparison]] = defaultdict(list)
    for vote in votes:
        groups[vote.question, pair_of(vote)].append(vote)
    order = list(Question)
    found = [
        _pair(question, pair, groups[question, pair], resampling)
        for question, pair in sorted(groups, key=lambda group: (order.index(group[0]), group[1]))
    ]
    corrected = holm([result.p for result in found])
    return tuple(replace(result, p_holm=p) for result, p in zip(found, corrected, strict=True) if p is not None)


def no_preference_p(means: FloatArray, resampling: Resampling) -> float:
    """Two-sided p-value of no preference from the mean preference of each case.

    Under the null hypothesis the two arms are exchangeable on every case, so the sign of each case's mean is a coin's
    throw. All 2^n assignments are looked at where they are no more than the draws, else p = (1 + as extreme) /
    (1 + draws). Cases are what is drawn: raters who share a taste over all cases are taken as given.

    Source: Fisher, The Design of Experiments, 1935, section 21.

    Args:
        means: float64 (cases,), -1 to 1.
        resampling: number of draws and seed.
    """
    if len(means) < 2:
        # Either sign of one case is as extreme as the other.
        return 1.0
    rng = np.random.default_rng([resampling.seed, _PERMUTATION_STREAM])
    result = permutation_test(
        (means,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resampling.resamples,
        random_state=rng,
    )
    return float(result.pvalue)


def case_preferences(votes: Sequence[Comparison]) -> dict[str, float]:
    """Mean verdict of each case, -1 to 1, by case id."""
    by_case: defaultdict[str, list[int]] = defaultdict(list)
    for vote in votes:
        by_case[vote.case].append(verdict(vote))
    return {case: sum(given) / len(given) for case, given in sorted(by_case.items())}


def _pair(question: Question, pair: tuple[str, str], votes: Sequence[Comparison], resampling: Resampling) -> PairResult:
    clusters = Clusters(votes, resampling)
    verdict_v = np.array([verdict(vote) for vote in votes], dtype=np.float64)
    won, tied, lost = ((verdict_v == kind).astype(np.float64) for kind in (1, 0, -1))
    means = np.array(list(case_preferences(votes).values()))
    rates = [clusters.rate(hits) for hits in (won + tied / 2, won, tied, lost)]
    half_rate, win_share, tie_share, loss_share = (rate for rate in rates if rate is not None)
    p = no_preference_p(means, resampling)
    return PairResult(
        question=question,
        first=pair[0],
        second=pair[1],
        wins=int(won.sum()),
        ties=int(tied.sum()),
        both_bad=sum(vote.answer is Answer.BOTH_BAD for vote in votes),
        losses=int(lost.sum()),
        cases=clusters.cases,
        raters=clusters.raters,
        win_rate=clusters.rate(won, won + lost),
        half_rate=half_rate,
        win_share=win_share,
        tie_share=tie_share,
        loss_share=loss_share,
        preference=float(means.mean()),
        p=p,
        p_holm=p,
    )
