"""Krippendorff's alpha against another program and what is known of it."""

from __future__ import annotations

import numpy as np
import pytest

from refeval.statistics.results import Resampling
from refeval.studies.agreement import krippendorff_alpha
from refeval.studies.comparisons import Answer
from refeval.studies.simulate import Taste
from refeval.studies.verdicts import pair_of, verdict
from tests.studies.made_up import real_votes, vote

FEW = Resampling(resamples=400)


def test_value_as_in_krippendorff() -> None:
    """Three arms, raters who have seen different units, ties."""
    krippendorff = pytest.importorskip("krippendorff", reason="krippendorff is not installed: pip install krippendorff")
    votes = real_votes(Taste(strengths=(0.8, 0.0, -0.8), by_case=1.0), 2, arms=3, raters=12, per_rater=25)
    units = sorted({(v.case, *pair_of(v)) for v in votes})
    table = np.full((12, len(units)), np.nan)
    for v in votes:
        table[int(v.rater[1:]) - 1, units.index((v.case, *pair_of(v)))] = verdict(v)
    found = krippendorff_alpha(votes, FEW)
    assert found.value == pytest.approx(krippendorff.alpha(table, level_of_measurement="nominal"), abs=1e-12)
    assert found.units == sum(np.sum(~np.isnan(table[:, u])) >= 2 for u in range(len(units)))
    assert found.low is not None and found.high is not None and found.low < found.value < found.high


def test_full_agreement_is_1_whichever_side_an_arm_stands_on() -> None:
    votes = []
    for case in range(6):
        for rater in range(4):
            left, right = ("a", "b") if rater % 2 else ("b", "a")
            better = "a" if case % 2 else "b"
            answer = Answer.LEFT if left == better else Answer.RIGHT
            votes.append(vote(f"c{case}", left, right, answer, rater=f"r{rater}"))
    found = krippendorff_alpha(votes, FEW)
    assert (found.value, found.low, found.high) == (1, 1, 1)


def test_both_bad_agrees_with_a_tie() -> None:
    votes = [vote("c1", "a", "b", Answer.TIE), vote("c1", "a", "b", Answer.BOTH_BAD, rater="r02")]
    votes += [vote("c2", "a", "b", Answer.LEFT), vote("c2", "a", "b", Answer.LEFT, rater="r02")]
    assert krippendorff_alpha(votes, FEW).value == 1


def test_undefined_is_none() -> None:
    once = [vote("c1", "a", "b", Answer.LEFT), vote("c2", "a", "b", Answer.RIGHT)]
    same = [vote("c1", "a", "b", Answer.LEFT), vote("c1", "a", "b", Answer.LEFT, rater="r02")]
    for votes, units in ((once, 0), (same, 1)):
        found = krippendorff_alpha(votes, FEW)
        assert (found.value, found.low, found.high, found.units) == (None, None, None, units)


def test_lots_agree_by_chance_alone() -> None:
    """The interval holds 0 in about 95 of 100 studies of raters who toss dice."""
    held = 0
    for seed in range(100):
        found = krippendorff_alpha(real_votes(Taste(strengths=(0.0, 0.0), careless=1.0), seed), FEW)
        assert found.low is not None and found.high is not None
        held += found.low <= 0 <= found.high
    assert 90 <= held <= 99
