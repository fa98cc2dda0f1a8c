"""Davidson's model against other programs, closed forms, a search of its own, and made-up raters of known taste."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from refeval.errors import BadInput
from refeval.statistics.results import Resampling
from refeval.studies.comparisons import Answer, Comparison
from refeval.studies.davidson import fit_davidson, rank_arms
from refeval.studies.simulate import Taste
from tests.studies.made_up import real_votes, vote

TASTE = Taste(strengths=(0.6, 0.1, -0.3, -0.4), tie=-0.4, position=0.3)
FEW = Resampling(resamples=200)
SWAPPED = {Answer.LEFT: Answer.RIGHT, Answer.RIGHT: Answer.LEFT}


def mirrored(votes: list[Comparison]) -> list[Comparison]:
    """The same arms preferred, from the other side."""
    return [replace(v, left=v.right, right=v.left, answer=SWAPPED.get(v.answer, v.answer)) for v in votes]


@pytest.fixture(scope="module")
def votes() -> list[Comparison]:
    return real_votes(TASTE, 5, arms=4, raters=20, per_rater=40)


def test_the_maximum_is_that_of_the_likelihood_as_published(votes: list[Comparison]) -> None:
    """Worths, nu and gamma as Davidson and Beaver write them, maximised by a search without derivatives."""
    arms = sorted({v.left for v in votes})
    counts = Counter((arms.index(v.left), arms.index(v.right), v.answer) for v in votes)

    def minus_log_likelihood(x: np.ndarray) -> float:
        worth, nu, gamma = np.exp(np.append(x[:3], -x[:3].sum())), np.exp(x[3]), np.exp(x[4])
        total = 0.0
        for (i, j, answer), n in counts.items():
            tie = nu * np.sqrt(worth[i] * worth[j])
            odds = {Answer.LEFT: worth[i], Answer.RIGHT: gamma * worth[j], Answer.TIE: tie}
            total -= n * np.log(odds[answer] / sum(odds.values()))
        return float(total)

    options = {"maxiter": 20000, "maxfev": 20000, "xatol": 1e-9, "fatol": 1e-11, "adaptive": True}
    best = minimize(minus_log_likelihood, np.zeros(5), method="Nelder-Mead", options=options)
    fit = fit_davidson(votes)
    assert fit.log_likelihood == pytest.approx(-best.fun, abs=1e-7)
    np.testing.assert_allclose(fit.strengths[:3], best.x[:3], atol=1e-4)
    # Their order effect multiplies the right side, and is divided between the sides here.
    assert fit.position == pytest.approx(-best.x[4], abs=1e-4)
    assert fit.tie == pytest.approx(best.x[3] - best.x[4] / 2, abs=1e-4)


def test_ties_as_in_evalica(votes: list[Comparison]) -> None:
    evalica = pytest.importorskip("evalica", reason="evalica is not installed: pip install evalica")
    both = votes + mirrored(votes)
    winner = {Answer.LEFT: evalica.Winner.X, Answer.RIGHT: evalica.Winner.Y}
    found = evalica.newman(
        [v.left for v in both],
        [v.right for v in both],
        [winner.get(v.answer, evalica.Winner.Draw) for v in both],
        tolerance=1e-12,
        limit=10_000,
    )
    fit = fit_davidson(both)
    theirs = np.log(found.scores.loc[list(fit.arms)].to_numpy())
    np.testing.assert_allclose(fit.strengths, theirs - theirs.mean(), atol=1e-6)
    assert fit.tie is not None and np.exp(fit.tie) == pytest.approx(2 * found.v, rel=1e-6)
    assert fit.position == pytest.approx(0, abs=1e-9)


def test_decisive_votes_alone_as_in_choix(votes: list[Comparison]) -> None:
    choix = pytest.importorskip("choix", reason="choix is not installed: pip install choix")
    decisive = [v for v in votes if v.answer is not Answer.TIE]
    both = decisive + mirrored(decisive)
    fit = fit_davidson(both)
    place = {arm: i for i, arm in enumerate(fit.arms)}
    won = [(v.left, v.right) if v.answer is Answer.LEFT else (v.right, v.left) for v in both]
    theirs = choix.opt_pairwise(4, [(place[a], place[b]) for a, b in won], alpha=0, tol=1e-10)
    np.testing.assert_allclose(fit.strengths, theirs - theirs.mean(), atol=1e-5)
    assert fit.tie is None


def test_two_arms_have_a_closed_form() -> None:
    """30 wins, 20 ties, 10 losses, evenly over the sides: d = log(30 / 10), nu = 20 / sqrt(30 * 10)."""
    answers = [Answer.LEFT] * 15 + [Answer.TIE] * 5 + [Answer.BOTH_BAD] * 5 + [Answer.RIGHT] * 5
    votes = [vote(f"c{i}", "a", "b", answer) for i, answer in enumerate(answers)]
    fit = fit_davidson(votes + mirrored(votes))
    np.testing.assert_allclose(fit.strengths, [np.log(3) / 2, -np.log(3) / 2], atol=1e-12)
    assert fit.tie == pytest.approx(np.log(20 / np.sqrt(300)))
    assert fit.position == pytest.approx(0, abs=1e-12)


def test_influence_is_what_a_vote_left_out_changes(votes: list[Comparison]) -> None:
    whole = fit_davidson(votes)
    np.testing.assert_allclose(whole.influence.sum(axis=0), 0, atol=1e-10)
    for place in (0, 17, 400):
        without = fit_davidson(votes[:place] + votes[place + 1 :])
        changed = [*(whole.strengths - without.strengths), whole.tie - without.tie, whole.position - without.position]
        np.testing.assert_allclose(changed, whole.influence[place], rtol=0.02, atol=2e-5)


def test_mirrored_sides_turn_the_position_alone(votes: list[Comparison]) -> None:
    plain, turned = fit_davidson(votes), fit_davidson(mirrored(votes))
    np.testing.assert_allclose(turned.strengths, plain.strengths, atol=1e-9)
    assert turned.tie == pytest.approx(plain.tie)
    assert plain.position is not None and plain.position > 0.1
    assert turned.position == pytest.approx(-plain.position)


def test_swapped_answers_turn_strengths_and_position(votes: list[Comparison]) -> None:
    turned = fit_davidson([replace(v, answer=SWAPPED.get(v.answer, v.answer)) for v in votes])
    plain = fit_davidson(votes)
    np.testing.assert_allclose(turned.strengths, -plain.strengths, atol=1e-9)
    assert turned.position == pytest.approx(-plain.position)


def test_without_balance_the_side_is_left_out() -> None:
    answers = [Answer.LEFT, Answer.LEFT, Answer.RIGHT, Answer.TIE] * 5
    votes = [vote(f"c{i}", "a", "b", answer, rater=f"r{i % 4}") for i, answer in enumerate(answers)]
    ranking = rank_arms(votes, FEW)
    assert ranking.position is None
    assert ranking.arms[0].arm == "a"
    assert ranking.arms[0].strength.value == pytest.approx(np.log(2) / 2)


def test_what_cannot_be_ranked_is_refused_and_named() -> None:
    apart = [vote("c1", "a", "b", Answer.TIE), vote("c1", "c", "d", Answer.TIE)]
    with pytest.raises(BadInput, match="no vote compares") as error:
        fit_davidson(apart)
    assert ("group 1", "a, b") in error.value.details and ("group 2", "c, d") in error.value.details
    beaten = [vote(f"c{i}", *sides, answer) for i, (*sides, answer) in enumerate([
        ("a", "b", Answer.LEFT), ("b", "a", Answer.RIGHT), ("b", "c", Answer.LEFT), ("b", "c", Answer.RIGHT),
    ])]  # fmt: skip
    with pytest.raises(BadInput, match="never lost") as error:
        fit_davidson(beaten)
    assert [text for _, text in error.value.details] == ["a", "b, c"]
    fit_davidson([*beaten, vote("c9", "a", "c", Answer.BOTH_BAD)])
    always_left = [vote("c1", "a", "b", Answer.LEFT), vote("c2", "b", "a", Answer.LEFT)]
    with pytest.raises(BadInput, match="follow the side"):
        fit_davidson(always_left)
    with pytest.raises(BadInput, match="no vote"):
        fit_davidson([])


def test_ranks_group_what_is_not_told_apart() -> None:
    """Two strong arms alike, two weak ones alike, far apart."""
    taste = Taste(strengths=(1.0, 1.0, -1.0, -1.0))
    ranking = rank_arms(real_votes(taste, 1, arms=4, raters=20, per_rater=40), FEW)
    assert {arm.arm for arm in ranking.arms if arm.group == 1} == {"arm 0", "arm 1"}
    assert [arm.ranks for arm in ranking.arms] == [(1, 2), (1, 2), (3, 4), (3, 4)]
    assert [arm.group for arm in ranking.arms] == [1, 1, 2, 2]


@pytest.mark.parametrize("by_case", [0.0, 0.8], ids=["independent votes", "votes alike on a case"])
def test_intervals_hold_the_truth_as_often_as_they_say(by_case: float) -> None:
    """250 studies: strengths and the pull of the side lie in 92 to 98 % of their 95 % intervals."""
    taste = Taste(strengths=(0.25, -0.25), position=0.3, by_case=by_case)
    held = []
    for seed in range(250):
        ranking = rank_arms(real_votes(taste, seed), replace(FEW, seed=seed))
        # A normal spread of log odds makes the odds over all cases less extreme, about by this factor.
        shrunk = 1 / np.sqrt(1 + by_case**2 / 2.9)
        strength = next(arm.strength for arm in ranking.arms if arm.arm == "arm 0")
        assert ranking.position
        held.append(
            (
                strength.low <= 0.25 * shrunk <= strength.high,
                ranking.position.low <= 0.3 * shrunk <= ranking.position.high,
            )
        )
    of_strength, of_position = np.mean(held, axis=0)
    assert 0.92 <= of_strength <= 0.98
    assert 0.92 <= of_position <= 0.98
