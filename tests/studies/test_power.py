"""Sample sizes against the published table and against the exact binomial; the exclusion rule against counting."""

from __future__ import annotations

import itertools

import pytest
from scipy.stats import binom

from refeval.errors import BadInput
from refeval.studies.comparisons import Answer, Comparison, PairKind, Question
from refeval.studies.exclusion import DECOY, ExclusionRule, is_right
from refeval.studies.power import detectable_win_rate, votes_needed


@pytest.mark.parametrize(("rate", "votes"), [(0.55, 783), (0.60, 194), (0.65, 85), (0.70, 47), (0.75, 29)])
def test_the_table_of_sample_sizes(rate: float, votes: int) -> None:
    assert votes_needed(rate) == votes_needed(1 - rate) == votes
    found = detectable_win_rate(votes)
    before = detectable_win_rate(votes - 1)
    assert found is not None and before is not None
    assert found <= rate < before


@pytest.mark.parametrize("rate", [0.55, 0.6, 0.7])
def test_the_exact_test_reaches_the_power_near_the_sample_size(rate: float) -> None:
    # Its power goes up and down from one size to the next, because only whole votes can be counted.
    def power(votes: int) -> float:
        least = next(k for k in range(votes // 2, votes + 1) if 2 * binom.sf(k - 1, votes, 0.5) <= 0.05)
        return float(binom.sf(least - 1, votes, rate))

    votes = votes_needed(rate)
    assert max(map(power, range(votes, round(1.05 * votes) + 5))) >= 0.8
    assert max(map(power, range(round(0.85 * votes), round(0.9 * votes)))) < 0.8


def test_too_few_votes_show_nothing_and_no_difference_needs_no_number() -> None:
    assert detectable_win_rate(0) is None
    assert detectable_win_rate(3) is None
    assert detectable_win_rate(4) is not None
    for rate in (0.5, 1.2):
        with pytest.raises(BadInput):
            votes_needed(rate)


def check(rater: str, item: str, kind: PairKind, left: str, answer: Answer) -> Comparison:
    right = "arm" if left == DECOY or kind is PairKind.IDENTICAL else DECOY
    question = Question.QUALITY
    return Comparison(
        rater=rater, item=item, case="c", question=question, kind=kind, left=left, right=right, answer=answer, seconds=1
    )


def test_who_fails_more_than_a_third_of_the_checks_is_left_out() -> None:
    identical, decoy = PairKind.IDENTICAL, PairKind.DECOY
    right = [
        check("r1", "1", identical, "arm", Answer.TIE),
        check("r1", "2", decoy, DECOY, Answer.RIGHT),
        check("r1", "3", decoy, "arm", Answer.LEFT),
        check("r1", "4", identical, "arm", Answer.BOTH_BAD),
    ]
    wrong = [
        check("r2", "1", identical, "arm", Answer.LEFT),
        check("r2", "2", decoy, DECOY, Answer.LEFT),
        check("r2", "3", decoy, "arm", Answer.RIGHT),
        check("r2", "4", decoy, "arm", Answer.TIE),
        check("r2", "5", decoy, "arm", Answer.BOTH_BAD),
    ]
    assert all(map(is_right, right)) and not any(map(is_right, wrong))
    assert ExclusionRule().excluded([*right, *wrong]) == ["r2"]
    assert ExclusionRule().excluded([*right[:2], wrong[2]]) == ["r2"]
    two_of_three = [*right[:2], check("r1", "5", decoy, "arm", Answer.TIE)]
    assert ExclusionRule().excluded(two_of_three) == []
    assert ExclusionRule(least="1").excluded(two_of_three) == ["r1"]


@pytest.mark.parametrize("checks", [1, 4, 6])
def test_the_chance_to_pass_by_guessing(checks: int) -> None:
    rule = ExclusionRule()
    guesses = list(itertools.product((1, 0, 0), repeat=checks))
    passed = sum(rule.keeps(sum(guess), checks) for guess in guesses)
    assert rule.passed_by_guessing(checks) == pytest.approx(passed / len(guesses))
