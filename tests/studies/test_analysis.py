"""Win rates, tests, sides, raters and metrics: known answers, symmetries, and how often intervals and tests hold."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau

from refeval.errors import BadInput
from refeval.statistics.intervals import wilson_interval
from refeval.statistics.results import Resampling
from refeval.studies.analysis import analyse, summarise
from refeval.studies.analysis_clusters import Clusters
from refeval.studies.analysis_metrics import OTHER_RATER, _tau, metric_agreement
from refeval.studies.analysis_pairs import compare_pairs, no_preference_p
from refeval.studies.analysis_sides import look_at_sides
from refeval.studies.comparisons import Answer, Comparison, PairKind, Question
from refeval.studies.exclusion import DECOY, ExclusionRule
from refeval.studies.simulate import Taste, simulate
from tests.studies.made_up import real_votes, sheets, vote
from tests.studies.test_davidson import SWAPPED, mirrored

FEW = Resampling(resamples=500)
LEFT, RIGHT, TIE, BAD = Answer.LEFT, Answer.RIGHT, Answer.TIE, Answer.BOTH_BAD


def test_counts_do_not_depend_on_sides() -> None:
    votes = [
        vote("c1", "a", "b", LEFT),
        vote("c1", "b", "a", RIGHT, rater="r02"),
        vote("c1", "b", "a", LEFT, rater="r03"),
        vote("c2", "a", "b", TIE),
        vote("c2", "b", "a", BAD, rater="r02"),
    ]
    (pair,) = compare_pairs(votes, FEW)
    assert (pair.first, pair.second, pair.wins, pair.ties, pair.both_bad, pair.losses) == ("a", "b", 2, 2, 1, 1)
    assert pair.win_rate is not None and pair.win_rate.value == pytest.approx(2 / 3)
    assert pair.win_rate.wilson == wilson_interval(2, 3)
    assert pair.half_rate.value == pytest.approx(3 / 5)
    assert pair.preference == pytest.approx((1 / 3 + 0) / 2)


def test_swapped_arms_turn_every_sign_and_no_p() -> None:
    votes = real_votes(Taste(strengths=(0.4, -0.4), by_case=0.5), 3)
    (plain,) = compare_pairs(votes, FEW)
    (turned,) = compare_pairs([replace(v, answer=SWAPPED.get(v.answer, v.answer)) for v in votes], FEW)
    (other_sides,) = compare_pairs(mirrored(votes), FEW)
    assert plain.win_rate and turned.win_rate
    assert (turned.wins, turned.ties, turned.losses) == (plain.losses, plain.ties, plain.wins)
    assert turned.preference == pytest.approx(-plain.preference) and plain.preference > 0.1
    assert turned.p == plain.p
    low, high = plain.win_rate.clustered
    assert turned.win_rate.clustered == pytest.approx((1 - high, 1 - low))
    assert other_sides == plain


def test_the_bootstrap_converges_to_the_clustered_variance() -> None:
    """Case and rater sums of the influence, G / (G - 1) times their squares, less those of the two together."""
    votes = real_votes(Taste(strengths=(0.3, -0.3), by_case=1.0, by_rater=0.6), 8, per_rater=25, cases=25)
    hits = np.array([v.answer is LEFT for v in votes], dtype=np.float64)
    influence = (hits - hits.mean()) / len(hits)

    def variance(names: list[str]) -> float:
        sums: defaultdict[str, float] = defaultdict(float)
        for name, part in zip(names, influence, strict=True):
            sums[name] += part
        return len(sums) / (len(sums) - 1) * sum(total**2 for total in sums.values())

    both = variance([f"{v.case} {v.rater}" for v in votes])
    expected = max(both, variance([v.case for v in votes]) + variance([v.rater for v in votes]) - both)
    found = Clusters(votes, Resampling(resamples=20_000)).errors(influence[:, None])[0]
    assert found == pytest.approx(np.sqrt(expected), rel=0.03)


def test_votes_that_repeat_each_other_are_no_news() -> None:
    """Twice the raters with the votes of the first: Wilson believes them, the clustered interval does not."""
    votes = real_votes(Taste(strengths=(0.3, -0.3), by_case=1.5), 4)
    echoed = votes + [replace(v, rater=f"{v.rater} again") for v in votes]
    (once,), (twice,) = compare_pairs(votes, FEW), compare_pairs(echoed, FEW)

    def width(ends: tuple[float, float]) -> float:
        return ends[1] - ends[0]

    assert once.win_rate and twice.win_rate
    assert width(twice.win_rate.wilson) < 0.75 * width(once.win_rate.wilson)
    assert width(twice.win_rate.clustered) > 0.9 * width(once.win_rate.clustered)
    assert width(once.win_rate.clustered) > 1.2 * width(once.win_rate.wilson)


def test_a_rate_without_spread_keeps_an_interval() -> None:
    (pair,) = compare_pairs([vote(f"c{i}", "a", "b", LEFT, rater=f"r{i % 3}") for i in range(12)], FEW)
    assert pair.win_rate is not None and pair.win_rate.value == 1
    assert pair.win_rate.clustered[0] < pair.win_rate.wilson[0] < 1
    assert pair.win_rate.clustered[1] == 1


def test_small_p_values_are_exact() -> None:
    """5 cases, all for one arm: 2 of 2^5 assignments are as extreme. A case without a preference changes nothing."""
    assert no_preference_p(np.array([1.0, 0.5, 0.5, 0.25, 1.0]), FEW) == pytest.approx(2 / 32)
    assert no_preference_p(np.array([1.0, 0.5, 0.5, 0.25, 1.0, 0.0]), FEW) == pytest.approx(2 / 32)
    assert no_preference_p(np.zeros(5), FEW) == 1


def test_holm_runs_over_pairs_and_questions() -> None:
    questions = (Question.QUALITY, Question.TEXT)
    votes = simulate(sheets(arms=3, per_rater=40, questions=questions), Taste(strengths=(0.6, 0.0, -0.2)), seed=1)
    pairs = summarise(votes, {}, FEW).pairs
    assert len(pairs) == 6
    smallest = min(pairs, key=lambda pair: pair.p)
    assert smallest.p_holm == pytest.approx(min(1, 6 * smallest.p))
    assert all(pair.p_holm >= pair.p for pair in pairs)


def test_without_a_preference_false_alarms_are_5_per_cent() -> None:
    """500 studies with votes alike on a case: 3 to 7 % have p < .05."""
    few = Resampling(resamples=1000)
    alarms = 0
    for seed in range(500):
        votes = real_votes(Taste(strengths=(0.0, 0.0), by_case=1.0, position=0.3), seed, raters=10, per_rater=20)
        (pair,) = compare_pairs(votes, replace(few, resamples=200, seed=seed))
        alarms += pair.p < 0.05
    assert 15 <= alarms <= 35


def test_win_rate_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """250 studies with votes alike on a case: 92 to 98 % clustered, and far fewer by Wilson alone."""
    taste = Taste(strengths=(0.0, 0.0), by_case=1.2, by_rater=0.3)
    held, naive = 0, 0
    for seed in range(250):
        (pair,) = compare_pairs(real_votes(taste, seed), Resampling(resamples=100, seed=seed))
        assert pair.win_rate
        held += pair.win_rate.clustered[0] <= 0.5 <= pair.win_rate.clustered[1]
        naive += pair.win_rate.wilson[0] <= 0.5 <= pair.win_rate.wilson[1]
    assert 0.92 <= held / 250 <= 0.98
    assert naive / 250 < 0.85


def test_sides_and_repeats() -> None:
    """r01 answers by side, r02 by arm; identical clips and decoys are no pairs of arms."""
    votes = []
    for rater, again in (("r01", LEFT), ("r02", RIGHT)):
        for i in range(4):
            votes.append(vote(f"c{i}", "a", "b", LEFT, rater=rater, item=f"i{i}"))
            repeat = {"kind": PairKind.REPEAT, "repeats": f"i{i}", "item": f"j{i}"}
            votes.append(vote(f"c{i}", "b", "a", again, rater=rater, **repeat))
    votes.append(vote("c1", "a", "a", LEFT, item="k", kind=PairKind.IDENTICAL))
    votes.append(vote("c1", "a", DECOY, LEFT, item="l", kind=PairKind.DECOY))
    votes.append(vote("c1", "b", "a", LEFT, item="m", kind=PairKind.REPEAT, repeats="never answered"))
    sides = look_at_sides(votes, FEW)
    assert sides.left and sides.left.value == 1 and sides.left.n == 8
    assert sides.left_identical and sides.left_identical.n == 1
    assert (sides.repeats, sides.same_side) == (8, 4)
    assert sides.alike and sides.alike.value == 0.5
    assert sides.same_left and sides.same_left.value == 1 and sides.same_left.n == 4
    results = summarise(votes, {}, FEW)
    assert results.votes == 8
    assert [(pair.first, pair.second, pair.votes) for pair in results.pairs] == [("a", "b", 8)]


def test_mirrored_sides_turn_the_pull_alone() -> None:
    votes = simulate(sheets(), Taste(strengths=(0.3, -0.3), position=0.8), seed=2)
    plain, turned = look_at_sides(votes, FEW), look_at_sides(mirrored(votes), FEW)
    assert plain.left and turned.left and plain.left.value > 0.6
    assert turned.left.value == pytest.approx(1 - plain.left.value)
    assert turned.alike == plain.alike


def test_careless_raters_are_left_out_and_results_stand_with_and_without() -> None:
    taste = Taste(strengths=(1.0, -1.0), careless=0.2)
    votes = simulate(sheets(checks=0.3), taste, seed=6)
    analysis = analyse(votes, ExclusionRule(), resampling=FEW)
    out = {rater.id for rater in analysis.excluded}
    # Four answer by lot; one of them passes so by chance.
    assert len(out & {"r01", "r02", "r03", "r04"}) >= 3 and len(out) <= 5
    assert all("attention checks right, fewer than 2/3" in (rater.excluded or "") for rater in analysis.excluded)
    assert analysis.everyone and analysis.kept
    assert analysis.kept.raters == 20 - len(out) and analysis.everyone.raters == 20
    with_them, without = analysis.everyone.pairs[0].win_rate, analysis.kept.pairs[0].win_rate
    assert with_them and without and without.value > with_them.value
    careful = analyse([v for v in votes if v.rater not in out], ExclusionRule(), resampling=FEW)
    assert careful.everyone is None and careful.kept == analysis.kept


def test_a_study_without_votes_is_refused_and_one_without_careful_raters_is_not() -> None:
    check = vote("c1", "a", "a", LEFT, kind=PairKind.IDENTICAL)
    for votes in ([], [check]):
        with pytest.raises(BadInput, match="no vote on a pair of arms"):
            analyse(votes, ExclusionRule())
    analysis = analyse([check, vote("c1", "a", "b", LEFT, item="i2")], ExclusionRule(), resampling=FEW)
    assert analysis.kept is None and analysis.main is analysis.everyone and analysis.main.votes == 1


def test_a_ranking_that_cannot_be_made_is_told_and_the_rest_stands() -> None:
    results = summarise([vote(f"c{i}", "a", "b", LEFT, rater=f"r{i % 2}") for i in range(6)], {}, FEW)
    (question,) = results.questions
    assert question.ranking is None and question.refused is not None and "group 1: a" in question.refused
    assert results.pairs[0].wins == 6


def test_metrics_against_votes() -> None:
    """One metric that says what the votes say, one that says the opposite, one that sees no difference."""
    votes = []
    for case in range(10):
        better = "a" if case % 3 else "b"
        for rater in range(4):
            left, right = ("a", "b") if rater % 2 else ("b", "a")
            liked = better if rater or case % 2 else ("b" if better == "a" else "a")
            votes.append(vote(f"c{case}", left, right, LEFT if left == liked else RIGHT, rater=f"r{rater}"))
    sign = {f"c{case}": (1 if case % 3 else -1) for case in range(10)}
    scores = {
        "right": {"a": {c: s + 0.1 for c, s in sign.items()}, "b": dict.fromkeys(sign, 0.1)},
        "wrong": {"a": {c: -s for c, s in sign.items()}, "b": dict.fromkeys(sign, 0.0)},
        "flat": {"a": dict.fromkeys(sign, 1.0), "b": dict.fromkeys(sign, 1.0)},
        "lost": {"a": {"c0": 1.0}, "b": {"c1": 1.0}},
    }
    found = {one.metric: one for one in metric_agreement(votes, scores, FEW)}
    assert set(found) == {"right", "wrong", "flat", OTHER_RATER}
    # 5 cases of ten are unanimous, in the others 3 of 4 vote for the better arm.
    assert found["right"].accuracy == pytest.approx(35 / 40) == 1 - found["wrong"].accuracy
    assert found["flat"].accuracy == 0.5 and found["flat"].tau is None
    assert found["right"].tau is not None and found["right"].tau == pytest.approx(-(found["wrong"].tau or 0))
    assert found["right"].accuracy_ends and found["right"].accuracy_ends[0] < 35 / 40 < found["right"].accuracy_ends[1]
    assert found[OTHER_RATER].accuracy == pytest.approx((20 + 20 * 0.5) / 40)


def test_tau_as_in_scipy_with_both_ways_round_and_copies() -> None:
    rng = np.random.default_rng(1)
    x, y, copies = rng.integers(-3, 4, 12).astype(float), rng.integers(-2, 3, 12) / 2, rng.integers(0, 4, 12)
    xs, ys = np.repeat(x, copies), np.repeat(y, copies)
    theirs = kendalltau([*xs, *-xs], [*ys, *-ys]).statistic
    assert _tau(x, y, copies[None, :].astype(float))[0] == pytest.approx(theirs, abs=1e-12)


def test_tau_does_not_depend_on_which_arm_is_first() -> None:
    votes = real_votes(Taste(strengths=(0.5, -0.5), by_case=1.0), 3)
    rng = np.random.default_rng(0)
    cases = sorted({v.case for v in votes})
    scores = {"metric": {arm: {case: float(rng.normal()) for case in cases} for arm in ("arm 0", "arm 1")}}
    other = {"arm 0": "z", "arm 1": "b"}
    renamed = [replace(v, left=other[v.left], right=other[v.right]) for v in votes]
    plain, _ = metric_agreement(votes, scores, FEW)
    turned, _ = metric_agreement(renamed, {"metric": {other[arm]: s for arm, s in scores["metric"].items()}}, FEW)
    assert turned == plain


def test_made_up_raters_answer_as_their_taste_says() -> None:
    """Shares of left, tie and right on real pairs; equals and decoys are seen; repeats name their item."""
    taste = Taste(strengths=(0.5, -0.5), tie=0.2, position=0.4, both_bad=0.5)
    planned = sheets(cases=200, raters=40, per_rater=80, checks=0.2)
    votes = simulate(planned, taste, seed=0)
    assert votes == simulate(planned, taste, seed=0) != simulate(planned, taste, seed=1)
    real: list[Comparison] = [v for v in votes if v.kind is PairKind.REAL and v.left == "arm 0"]
    odds = np.exp([1.4 / 2, 0.2, -1.4 / 2])
    shares = [np.mean([v.answer in kinds for v in real]) for kinds in ((LEFT,), (TIE, BAD), (RIGHT,))]
    np.testing.assert_allclose(shares, odds / odds.sum(), atol=0.04)
    ties = [v.answer for v in votes if v.answer in (TIE, BAD)]
    assert 0.4 < ties.count(BAD) / len(ties) < 0.6
    checks = analyse(votes, ExclusionRule(), resampling=FEW)
    assert np.mean([rater.right / rater.checks for rater in checks.raters]) > 0.85
    by_item = {(v.rater, v.item): v for v in votes}
    for again in (v for v in votes if v.kind is PairKind.REPEAT):
        first = by_item[again.rater, again.repeats or ""]
        assert (first.left, first.right, first.case) == (again.right, again.left, again.case)


def test_the_worked_example_prints_what_the_documentation_says() -> None:
    text = (Path(__file__).parents[2] / "docs" / "studies.md").read_text()
    found = re.search(r"### Try it.*?```python\n(.*?)```\nprints `(.*?)`", text, re.DOTALL)
    assert found
    done = subprocess.run([sys.executable, "-c", found[1]], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == found[2]


def test_draws_in_parts_are_the_draws_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many clusters do not fit into memory together: their draws come in parts, to nearly the same error."""
    votes = real_votes(Taste(strengths=(0.3, -0.3), by_case=1.0), 8)
    influence = np.array([[(v.answer is LEFT) - 0.5] for v in votes]) / len(votes)
    whole = Clusters(votes, Resampling(resamples=5000)).errors(influence)
    monkeypatch.setattr("refeval.studies.analysis_clusters._MOST_WEIGHTS", 9000)
    assert Clusters(votes, Resampling(resamples=5000)).errors(influence) == pytest.approx(whole, rel=0.05)
